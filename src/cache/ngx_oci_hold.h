
/*
 * Copyright (C) The nginx-oci authors
 */


#ifndef _NGX_OCI_HOLD_H_INCLUDED_
#define _NGX_OCI_HOLD_H_INCLUDED_


#include "ngx_oci_cache.h"


/* registers the filters; in the postconfiguration */
void ngx_oci_hold_init(void);


#endif /* _NGX_OCI_HOLD_H_INCLUDED_ */
