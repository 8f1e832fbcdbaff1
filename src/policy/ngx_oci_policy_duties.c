
/*
 * Copyright (C) The nginx-oci authors
 *
 * Who may look after the edge: whatever repository it is granted for, the
 * right to preheat, to purge or to see the status is found by its principal.
 * Few have any, whatever the size of the document.
 */


#include "ngx_oci_policy_doc.h"


static ngx_int_t ngx_oci_doc_duty(ngx_oci_doc_t *doc, uint32_t place);


#define NGX_OCI_DOC_DUTIES  (NGX_OCI_PREHEAT|NGX_OCI_PURGE|NGX_OCI_STATUS)


ngx_int_t
ngx_oci_doc_duties(ngx_oci_doc_t *doc)
{
    size_t                i, n;
    uint32_t              table, mask;
    ngx_oci_rbac_rule_t  *rule;

    n = 0;

    for (i = 0; i < doc->nrules; i++) {
        rule = ngx_oci_doc_at(doc, ngx_oci_rbac_rule_t, doc->rules[i]);
        n += ((rule->actions & NGX_OCI_DOC_DUTIES) != 0);
    }

    mask = ngx_oci_doc_mask(n);
    table = ngx_oci_doc_alloc(doc, ((size_t) mask + 1) * sizeof(uint32_t));

    if (table == 0) {
        return ngx_oci_doc_memory(doc);
    }

    ngx_oci_doc_head(doc)->duties = table;
    ngx_oci_doc_head(doc)->duties_mask = mask;

    for (i = 0; i < doc->nrules; i++) {
        if (ngx_oci_doc_duty(doc, doc->rules[i]) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* the rule at that place, for its principal */

static ngx_int_t
ngx_oci_doc_duty(ngx_oci_doc_t *doc, uint32_t place)
{
    uint32_t              at, *head, principal;
    ngx_uint_t            action, actions, n;
    ngx_oci_rbac_t       *rbac;
    ngx_oci_rbac_duty_t  *duty;

    actions = ngx_oci_doc_at(doc, ngx_oci_rbac_rule_t, place)->actions
              & NGX_OCI_DOC_DUTIES;

    if (actions == 0) {
        return NGX_OK;
    }

    principal = ngx_oci_doc_at(doc, ngx_oci_rbac_rule_t, place)->principal;

    rbac = ngx_oci_doc_head(doc);
    head = ngx_oci_doc_at(doc, uint32_t, rbac->duties)
           + (ngx_oci_rbac_hash(principal, NULL, 0) & rbac->duties_mask);

    for (at = *head; at; at = duty->next) {

        duty = ngx_oci_doc_at(doc, ngx_oci_rbac_duty_t, at);

        if (duty->principal == principal) {
            break;
        }
    }

    if (at == 0) {

        at = ngx_oci_doc_alloc(doc, sizeof(ngx_oci_rbac_duty_t));
        if (at == 0) {
            return ngx_oci_doc_memory(doc);
        }

        /* (everything may have moved) */

        rbac = ngx_oci_doc_head(doc);
        head = ngx_oci_doc_at(doc, uint32_t, rbac->duties)
               + (ngx_oci_rbac_hash(principal, NULL, 0) & rbac->duties_mask);
        duty = ngx_oci_doc_at(doc, ngx_oci_rbac_duty_t, at);

        duty->principal = principal;
        duty->next = *head;
        *head = at;
    }

    duty = ngx_oci_doc_at(doc, ngx_oci_rbac_duty_t, at);

    for (action = NGX_OCI_PREHEAT; action <= NGX_OCI_STATUS; action <<= 1) {

        n = ngx_oci_rbac_duty(action);

        if ((actions & action) && duty->rule[n] == 0) {
            duty->rule[n] = place;
        }
    }

    return NGX_OK;
}
