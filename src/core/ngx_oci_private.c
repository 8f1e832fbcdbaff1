
/*
 * Copyright (C) The nginx-oci authors
 *
 * To which addresses the names of realms and redirects may lead.  A registry
 * chooses among the names that are allowed, and whoever runs their DNS chooses
 * the addresses: neither may lead the edge to a service of the inside.
 */


#include "ngx_oci_core.h"


typedef enum {
    NGX_OCI_PRIVATE_NOT = 0,
    NGX_OCI_PRIVATE_SITE,           /* a private network's */
    NGX_OCI_PRIVATE_LOCAL           /* this host's, or its link's; nobody's */
} ngx_oci_private_e;


typedef struct {
    uint32_t                  addr;
    uint32_t                  mask;
    ngx_uint_t                kind;
} ngx_oci_private_net_t;


static ngx_uint_t ngx_oci_private_kind(struct sockaddr *sa);
static ngx_uint_t ngx_oci_private_inet(uint32_t addr);
#if (NGX_HAVE_INET6)
static ngx_uint_t ngx_oci_private_inet6(u_char *p);
#endif
static ngx_uint_t ngx_oci_private_inside(ngx_oci_registry_t *registry);
static ngx_uint_t ngx_oci_private_own(ngx_oci_registry_t *registry,
    struct sockaddr *sa, socklen_t socklen);
static ngx_uint_t ngx_oci_private_host(ngx_str_t *authority,
    ngx_str_t *host);


/* IANA's special-purpose addresses */

static ngx_oci_private_net_t  ngx_oci_private_nets[] = {
    { 0x00000000, 0xff000000, NGX_OCI_PRIVATE_LOCAL },  /* 0.0.0.0/8 */
    { 0x7f000000, 0xff000000, NGX_OCI_PRIVATE_LOCAL },  /* 127.0.0.0/8 */
    { 0xa9fe0000, 0xffff0000, NGX_OCI_PRIVATE_LOCAL },  /* 169.254.0.0/16 */
    { 0xe0000000, 0xe0000000, NGX_OCI_PRIVATE_LOCAL },  /* 224.0.0.0/3 */
    { 0x0a000000, 0xff000000, NGX_OCI_PRIVATE_SITE },   /* 10.0.0.0/8 */
    { 0xac100000, 0xfff00000, NGX_OCI_PRIVATE_SITE },   /* 172.16.0.0/12 */
    { 0xc0a80000, 0xffff0000, NGX_OCI_PRIVATE_SITE },   /* 192.168.0.0/16 */
    { 0x64400000, 0xffc00000, NGX_OCI_PRIVATE_SITE },   /* 100.64.0.0/10 */
    { 0xc0000000, 0xffffff00, NGX_OCI_PRIVATE_SITE },   /* 192.0.0.0/24 */
    { 0xc6120000, 0xfffe0000, NGX_OCI_PRIVATE_SITE }    /* 198.18.0.0/15 */
};


/* the address_allow parameter */

char *
ngx_oci_private_allow(ngx_conf_t *cf, ngx_oci_registry_t *registry,
    ngx_str_t *value, ngx_uint_t n)
{
    ngx_int_t    rc;
    ngx_uint_t   i;
    ngx_cidr_t  *cidr;

    if (registry->address_allow == NULL) {
        registry->address_allow = ngx_array_create(cf->pool, 4,
                                                   sizeof(ngx_cidr_t));
        if (registry->address_allow == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    for (i = 0; i < n; i++) {

        cidr = ngx_array_push(registry->address_allow);
        if (cidr == NULL) {
            return NGX_CONF_ERROR;
        }

        rc = ngx_ptocidr(&value[i], cidr);

        if (rc == NGX_ERROR) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid address \"%V\"",
                               &value[i]);
            return NGX_CONF_ERROR;
        }

        if (rc == NGX_DONE) {
            ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                               "low address bits of \"%V\" are meaningless",
                               &value[i]);
        }
    }

    return NGX_CONF_OK;
}


ngx_uint_t
ngx_oci_private_allowed(ngx_oci_registry_t *registry, ngx_str_t *host,
    struct sockaddr *sa, socklen_t socklen)
{
    ngx_uint_t  kind;

    kind = ngx_oci_private_kind(sa);

    if (kind == NGX_OCI_PRIVATE_NOT) {
        return 1;
    }

    if (registry->address_allow
        && ngx_cidr_match(sa, registry->address_allow) == NGX_OK)
    {
        return 1;
    }

    if (kind == NGX_OCI_PRIVATE_SITE
        && (registry->receiver || ngx_oci_private_inside(registry)))
    {
        return 1;
    }

    /* where the registry is as well, on another port */

    return (ngx_oci_private_host(&registry->host, host)
            || ngx_oci_private_host(&registry->authority, host))
           && ngx_oci_private_own(registry, sa, socklen);
}


void
ngx_oci_private_log(ngx_oci_registry_t *registry, ngx_str_t *host,
    struct sockaddr *sa, socklen_t socklen, ngx_log_t *log)
{
    ngx_str_t  text;
    u_char     buf[NGX_SOCKADDR_STRLEN];

    text.data = buf;
    text.len = ngx_sock_ntop(sa, socklen, buf, NGX_SOCKADDR_STRLEN, 0);

    if (registry->receiver) {
        ngx_log_error(NGX_LOG_ERR, log, 0,
                      "\"%V\" is %V, where nothing is sent unless the "
                      "\"oci_notify\" directive names the address itself",
                      host, &text);
        return;
    }

    ngx_log_error(NGX_LOG_ERR, log, 0,
                  "\"%V\" is %V, which is not used without \"address_allow "
                  "%V\" in oci_registry \"%V\"", host, &text, &text,
                  &registry->name);
}


static ngx_uint_t
ngx_oci_private_kind(struct sockaddr *sa)
{
    switch (sa->sa_family) {

#if (NGX_HAVE_INET6)
    case AF_INET6:
        return ngx_oci_private_inet6(
                           ((struct sockaddr_in6 *) sa)->sin6_addr.s6_addr);
#endif

    case AF_INET:
        return ngx_oci_private_inet(
                          ntohl(((struct sockaddr_in *) sa)->sin_addr.s_addr));

    default: /* AF_UNIX */
        return NGX_OCI_PRIVATE_LOCAL;
    }
}


static ngx_uint_t
ngx_oci_private_inet(uint32_t addr)
{
    ngx_uint_t              i;
    ngx_oci_private_net_t  *net;

    net = ngx_oci_private_nets;

    for (i = 0; i < sizeof(ngx_oci_private_nets) / sizeof(net[0]); i++) {
        if ((addr & net[i].mask) == net[i].addr) {
            return net[i].kind;
        }
    }

    return NGX_OCI_PRIVATE_NOT;
}


#if (NGX_HAVE_INET6)

static ngx_uint_t
ngx_oci_private_inet6(u_char *p)
{
    static u_char  zeros[12];
    static u_char  mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
    static u_char  nat64[12] = { 0, 0x64, 0xff, 0x9b };

    /* ::, ::1, and IPv4 in its clothes */

    if (ngx_memcmp(p, zeros, 12) == 0 || ngx_memcmp(p, mapped, 12) == 0
        || ngx_memcmp(p, nat64, 12) == 0)
    {
        return ngx_oci_private_inet((uint32_t) p[12] << 24 | p[13] << 16
                                    | p[14] << 8 | p[15]);
    }

    if (p[0] == 0x20 && p[1] == 0x02) {                 /* 6to4 */
        return ngx_oci_private_inet((uint32_t) p[2] << 24 | p[3] << 16
                                    | p[4] << 8 | p[5]);
    }

    if (p[0] == 0xff || (p[0] == 0xfe && (p[1] & 0xc0) == 0x80)) {
        return NGX_OCI_PRIVATE_LOCAL;                   /* fe80::/10 */
    }

    if ((p[0] & 0xfe) == 0xfc                           /* fc00::/7 */
        || (p[0] == 0xfe && (p[1] & 0xc0) == 0xc0)      /* fec0::/10 */
        || ngx_memcmp(p, nat64, 4) == 0)                /* 64:ff9b:1::/48 */
    {
        return NGX_OCI_PRIVATE_SITE;
    }

    return NGX_OCI_PRIVATE_NOT;
}

#endif


/* is the registry itself, all of it, on private addresses? */

static ngx_uint_t
ngx_oci_private_inside(ngx_oci_registry_t *registry)
{
    ngx_uint_t                   i, n, k;
    ngx_oci_names_t             *names;
    ngx_http_upstream_server_t  *server;

    n = 0;
    names = registry->names;

    if (names) {
        for (i = 0; i < names->naddrs; i++) {
            if (ngx_oci_private_kind(names->addrs[i].sockaddr)
                == NGX_OCI_PRIVATE_NOT)
            {
                return 0;
            }
        }

        return names->naddrs != 0;
    }

    if (registry->upstream == NULL || registry->upstream->servers == NULL) {
        return 0;
    }

    server = registry->upstream->servers->elts;

    for (i = 0; i < registry->upstream->servers->nelts; i++) {
        for (k = 0; k < server[i].naddrs; k++, n++) {
            if (ngx_oci_private_kind(server[i].addrs[k].sockaddr)
                == NGX_OCI_PRIVATE_NOT)
            {
                return 0;
            }
        }
    }

    return n != 0;
}


static ngx_uint_t
ngx_oci_private_own(ngx_oci_registry_t *registry, struct sockaddr *sa,
    socklen_t socklen)
{
    ngx_uint_t                   i, k;
    ngx_addr_t                  *addr;
    ngx_oci_names_t             *names;
    ngx_http_upstream_server_t  *server;

    names = registry->names;

    if (names) {
        for (i = 0; i < names->naddrs; i++) {
            if (ngx_cmp_sockaddr(names->addrs[i].sockaddr,
                                 names->addrs[i].socklen, sa, socklen, 0)
                == NGX_OK)
            {
                return 1;
            }
        }

        return 0;
    }

    if (registry->upstream == NULL || registry->upstream->servers == NULL) {
        return 0;
    }

    server = registry->upstream->servers->elts;

    for (i = 0; i < registry->upstream->servers->nelts; i++) {
        for (k = 0; k < server[i].naddrs; k++) {
            addr = &server[i].addrs[k];

            if (ngx_cmp_sockaddr(addr->sockaddr, addr->socklen, sa, socklen,
                                 0)
                == NGX_OK)
            {
                return 1;
            }
        }
    }

    return 0;
}


/* is it the authority's, with any port? */

static ngx_uint_t
ngx_oci_private_host(ngx_str_t *authority, ngx_str_t *host)
{
    return authority->len >= host->len
           && ngx_strncasecmp(authority->data, host->data, host->len) == 0
           && (authority->len == host->len
               || authority->data[host->len] == ':');
}
