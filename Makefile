
# nginx-oci
#
#   make                    modules against the installed nginx (nginx-dev)
#   make NGINX_SRC=dir      nginx and modules from a source tree
#   make commands           oci-policy alone
#   make deps               installs the Debian packages that are missing
#   make run                an edge to try, see README.md
#   make test               the test suite, JOBS files at once
#   make test-asan          the same with sanitizers
#   make crash              all states that a crash can leave of the cache
#   make soak               random operations, for SOAK seconds
#   make takeover           20 pulls of 1 GiB, the filling worker killed
#   make revoke             how soon a change in Redis is in force
#   make outage             a minute without Redis, under load, and two
#                           without the receiver of notifications
#   make timing             times of refusals, of what is there and what isn't
#   make reload             reloads and upgrades under load, for a minute
#   make audit              20 workers killed during 100,000 requests
#   make preheat-long       a preheat of 20 GiB, restarts, clients beside it
#   make fuzz               fuzzes the parsers, FUZZ_SECONDS for each
#   make faults             fails every call of every function, one by one
#   make bench              benchmarks

SHELL = /bin/bash

NGINX_DEV   = /usr/share/nginx/src
BUILD       = $(CURDIR)/build
MODULES     = $(BUILD)/modules
OBJ         = $(BUILD)/obj

SO          = ngx_http_oci_module.so ngx_http_oci_cache_module.so \
              ngx_http_oci_policy_module.so ngx_http_oci_hooks_module.so
SOURCES     = $(wildcard src/*/*.c src/*/*.h src/*/*.map)

CC_OPT      = -g -O2 -fPIC -Wextra -Wno-unused-parameter
SANITIZE    = -g -O1 -fsanitize=address,undefined -fno-omit-frame-pointer \
              -DNGX_DEBUG_PALLOC=1 -Wno-error

PURE        =
PURE       += src/cache/ngx_oci_descriptor.c
PURE       += src/cache/ngx_oci_pace.c
PURE       += src/core/ngx_oci_crc32c.c
PURE       += src/core/ngx_oci_header.c
PURE       += src/core/ngx_oci_json.c
PURE       += src/core/ngx_oci_pattern.c
PURE       += src/core/ngx_oci_route.c
PURE       += src/hooks/ngx_oci_pieces.c
PURE       += src/hooks/ngx_oci_event.c
PURE       += src/hooks/ngx_oci_notify_body.c
PURE       += src/hooks/ngx_oci_notify_record.c
PURE       += src/hooks/ngx_oci_platform.c
PURE       += src/policy/ngx_oci_audit_chain.c
PURE       += src/policy/ngx_oci_audit_parse.c
PURE       += src/policy/ngx_oci_audit_verify.c
PURE       += src/policy/ngx_oci_audit_verify_knot.c
PURE       += src/policy/ngx_oci_evidence.c
PURE       += src/policy/ngx_oci_format.c
PURE       += src/policy/ngx_oci_format_head.c
PURE       += src/policy/ngx_oci_format_look.c
PURE       += src/policy/ngx_oci_format_name.c
PURE       += src/policy/ngx_oci_format_pickle.c
PURE       += src/policy/ngx_oci_jwk.c
PURE       += src/policy/ngx_oci_jwt.c
PURE       += src/policy/ngx_oci_jwt_json.c
PURE       += src/policy/ngx_oci_jwt_key.c
PURE       += src/policy/ngx_oci_jwt_sign.c
PURE       += src/policy/ngx_oci_jwt_signature.c
PURE       += src/policy/ngx_oci_phc.c
PURE       += src/policy/ngx_oci_policy_doc.c
PURE       += src/policy/ngx_oci_policy_fields.c
PURE       += src/policy/ngx_oci_policy_duties.c
PURE       += src/policy/ngx_oci_policy_grants.c
PURE       += src/policy/ngx_oci_policy_rules.c
PURE       += src/policy/ngx_oci_rbac.c
PURE       += src/policy/ngx_oci_redis_reply.c
PURE       += src/policy/ngx_oci_rules.c
PURE       += src/policy/ngx_oci_rules_manifest.c
PURE       += src/policy/ngx_oci_scope.c
PURE       += src/policy/ngx_oci_signature.c
PURE       += src/policy/ngx_oci_signature_key.c
PURE_LIBS   = -ljansson -lhiredis -lcrypto
CMD         = $(BUILD)/bin/oci-policy
CMD_ASAN    = $(BUILD)/bin-asan/oci-policy
CMD_SOURCES = $(wildcard cmd/oci-policy/*.c)
CMD_OPT     = -g -O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 \
              -fstack-protector-strong
CMD_LIBS    = -lhiredis -ljansson -lcurl -lssl -lcrypto
PRELOADS    = $(patsubst t/faults/%.c,$(BUILD)/faults/%.so,$(wildcard t/faults/*.c))
COMMANDS    = $(patsubst src/bin/%.c,$(BUILD)/bin/%,$(wildcard src/bin/*.c))
UNITS       = $(patsubst t/unit/%.c,$(BUILD)/unit/%,$(wildcard t/unit/*.c))
FUZZERS     = $(patsubst t/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard t/fuzz/*.c))
FUZZ_SECONDS ?= 30
SOAK        ?= 600

# what units and fuzzers are compiled with, and the nginx that is tested

ifdef NGINX_SRC
HEADERS     = $(BUILD)/src/nginx
HEADERS_OBJ = $(BUILD)/src/nginx/objs
HEADERS_DEP = $(BUILD)/src/stamp
NGINX       = $(BUILD)/src/nginx/objs/nginx
else
HEADERS     = $(NGINX_DEV)
HEADERS_OBJ = $(OBJ)
HEADERS_DEP = $(OBJ)/Makefile
NGINX       = $$(PATH=$$PATH:/usr/sbin command -v nginx)
endif

NGINX_INCS  = -I$(HEADERS)/src/core -I$(HEADERS)/src/event \
              -I$(HEADERS)/src/os/unix -I$(HEADERS_OBJ) -Isrc/core \
              -Isrc/cache -Isrc/policy -Isrc/hooks

TEST_ENV    = TEST_NGINX_BINARY=$${TEST_NGINX_BINARY:-$(NGINX)} \
              TEST_NGINX_MODULES=$${TEST_NGINX_MODULES:-$(MODULES)}

TESTS      ?= t
JOBS       ?= 3


.PHONY: all modules deps need run test test-asan fuzz faults crash soak bench \
        takeover reload revoke outage timing audit preheat-long clean unit \
        preloads commands

all: modules preloads commands

ifdef NGINX_SRC

modules: $(BUILD)/src/stamp

# the tree is not written to: it is copied, configured and built here

$(BUILD)/src/stamp: config $(SOURCES)
	@test -f '$(NGINX_SRC)/auto/configure' -o -f '$(NGINX_SRC)/configure' \
	|| { echo "NGINX_SRC=$(NGINX_SRC) is no nginx source tree" >&2; exit 1; }
	@tools/deps.sh build-src check
	rm -rf $(BUILD)/src && mkdir -p $(BUILD)/src $(MODULES)
	cp -R '$(NGINX_SRC)/.' $(BUILD)/src/nginx
	cd $(BUILD)/src/nginx \
	&& { test -f configure || cp auto/configure configure; } \
	&& ./configure --with-compat --with-debug --with-threads \
	    --with-http_ssl_module --with-http_v2_module \
	    --with-http_slice_module --with-http_stub_status_module \
	    --with-http_auth_request_module --with-http_realip_module \
	    --with-cc-opt='$(CC_OPT)' \
	    --add-dynamic-module=$(CURDIR) > $(BUILD)/src/configure.log
	$(MAKE) -C $(BUILD)/src/nginx > $(BUILD)/src/make.log
	for m in $(SO); do \
	    cp $(BUILD)/src/nginx/objs/$$m $(MODULES)/$$m.tmp \
	    && mv $(MODULES)/$$m.tmp $(MODULES)/$$m || exit 1; \
	done
	rm -f $(OBJ)/stamp
	touch $@

else

modules: $(addprefix $(MODULES)/,$(SO))

$(OBJ)/Makefile: config
	@tools/deps.sh build check
	@mkdir -p $(OBJ)
	cd $(NGINX_DEV) && . ./conf_flags && ./configure \
	    "$${NGX_CONF_FLAGS[@]}" --with-cc-opt='$(CC_OPT)' \
	    --with-ld-opt=-fPIC --add-dynamic-module=$(CURDIR) \
	    --builddir=$(OBJ) > $(BUILD)/configure.log

$(OBJ)/stamp: $(OBJ)/Makefile $(SOURCES)
	$(MAKE) -f $(OBJ)/Makefile -C $(NGINX_DEV) modules > $(BUILD)/make.log
	@touch $@

$(addprefix $(MODULES)/,$(SO)): $(MODULES)/%: $(OBJ)/stamp
	@mkdir -p $(MODULES)
	cp $(OBJ)/$* $@.tmp && mv $@.tmp $@
	@rm -f $(BUILD)/src/stamp

endif


# the command that writes policy documents

commands: $(CMD)

$(CMD_ASAN): CMD_OPT = $(filter-out -Wno-error,$(SANITIZE))

$(CMD) $(CMD_ASAN): $(CMD_SOURCES) cmd/oci-policy/*.h \
        $(PURE) $(wildcard src/*/*.h) $(HEADERS_DEP)
	@tools/deps.sh build check
	@mkdir -p $(@D)
	$(CC) $(CMD_OPT) -Wall -Wextra -Werror -Wno-unused-parameter \
	    -D_GNU_SOURCE \
	    $(subst -I$(HEADERS),-isystem $(HEADERS),$(NGINX_INCS)) \
	    -o $@ $(CMD_SOURCES) $(PURE) $(CMD_LIBS)


deps:
	@tools/deps.sh all install

need:
	@tools/deps.sh all check 2>/dev/null || tools/deps.sh all install


run: need
	@$(MAKE) --no-print-directory modules
	@tools/run.sh


unit: $(UNITS)

$(BUILD)/unit/%: t/unit/%.c $(wildcard t/unit/*.h) $(PURE) $(SOURCES) $(HEADERS_DEP)
	@mkdir -p $(BUILD)/unit
	$(CC) -g -O1 -Wall -Wextra -Wno-unused-parameter $(NGINX_INCS) \
	    -o $@ $< $(PURE) $(PURE_LIBS)

# commands

commands: $(COMMANDS)

$(BUILD)/bin/%: src/bin/%.c $(PURE) $(SOURCES) $(HEADERS_DEP)
	@mkdir -p $(BUILD)/bin
	$(CC) -g -O2 -Wall -Wextra -Wno-unused-parameter $(NGINX_INCS) \
	    -o $@ $< $(PURE) $(PURE_LIBS)

# libraries to preload

preloads: $(PRELOADS)

$(BUILD)/faults/%.so: t/faults/%.c
	@mkdir -p $(BUILD)/faults
	$(CC) -g -O1 -Wall -Wextra -Wno-unused-parameter -fPIC -shared -o $@ $< -ldl -lpthread

test: need
	@$(MAKE) --no-print-directory modules unit preloads commands
	$(TEST_ENV) prove --timer -j $(JOBS) $(TESTS)

crash: need
	@$(MAKE) --no-print-directory modules preloads
	CRASH=full $(TEST_ENV) prove --timer t/crash.t

soak: need
	@$(MAKE) --no-print-directory modules
	SOAK=$(SOAK) $(TEST_ENV) prove --timer --verbose t/model.t

takeover: need
	@$(MAKE) --no-print-directory modules
	TAKEOVER=full $(TEST_ENV) prove --timer --verbose t/takeover.t

revoke: need
	@$(MAKE) --no-print-directory modules
	REVOKE=full $(TEST_ENV) prove --timer --verbose t/redis_revoke.t

outage: need
	@$(MAKE) --no-print-directory modules
	OUTAGE=full $(TEST_ENV) prove --timer --verbose t/redis_outage.t t/notify.t

timing: need
	@$(MAKE) --no-print-directory modules
	TIMING=full $(TEST_ENV) prove --timer --verbose t/policy_timing.t

reload: need
	@$(MAKE) --no-print-directory modules
	RELOAD=full $(TEST_ENV) prove --timer --verbose t/reload.t

preheat-long: need
	@$(MAKE) --no-print-directory modules
	PREHEAT=full $(TEST_ENV) prove --timer --verbose t/preheat_restart.t

audit: need
	@$(MAKE) --no-print-directory modules preloads commands
	AUDIT=full $(TEST_ENV) prove --timer --verbose t/audit_kill.t t/audit_chain.t


# nginx itself too is built with the sanitizers: the packages' source, which
# nginx-dev has no C files of

test-asan: need $(BUILD)/asan/stamp $(CMD_ASAN) preloads commands
	TEST_NGINX_BINARY=$(BUILD)/asan/nginx/objs/nginx \
	TEST_NGINX_MODULES=$(BUILD)/asan/nginx/objs \
	TEST_NGINX_ASAN=1 prove --timer -j $(JOBS) $(TESTS)

$(BUILD)/asan/stamp: config $(SOURCES)
	@tools/nginx-source.sh $(BUILD)/asan '$(NGINX_SRC)'
	cd $(BUILD)/asan/nginx && ./configure --with-compat --with-debug \
	    --with-threads --with-http_ssl_module --with-http_v2_module \
	    --with-http_slice_module --with-http_stub_status_module \
	    --with-http_auth_request_module --with-http_realip_module \
	    --with-http_addition_module \
	    --with-cc-opt='$(SANITIZE)' --with-ld-opt='-fsanitize=address,undefined' \
	    --add-dynamic-module=$(CURDIR) > ../configure.log
	$(MAKE) -C $(BUILD)/asan/nginx > $(BUILD)/asan/make.log 2>&1
	touch $@


$(BUILD)/fuzz/%: t/fuzz/%.c $(wildcard t/fuzz/*.h) $(PURE) $(HEADERS_DEP)
	@mkdir -p $(BUILD)/fuzz
	clang -g -O1 -fsanitize=fuzzer,address,undefined \
	    -fno-sanitize-recover=undefined $(NGINX_INCS) -o $@ $< $(PURE) \
	    $(PURE_LIBS)

fuzz: $(FUZZERS)
	@for f in $(notdir $(FUZZERS)); do \
	    mkdir -p $(BUILD)/fuzz/corpus/$$f; \
	    echo "== $$f"; \
	    $(BUILD)/fuzz/$$f -max_total_time=$(FUZZ_SECONDS) -verbosity=0 \
	        -artifact_prefix=$(BUILD)/fuzz/ \
	        $(BUILD)/fuzz/corpus/$$f t/fuzz/corpus/$$f || exit 1; \
	done; echo "no findings"


faults: need
	@$(MAKE) --no-print-directory modules preloads
	$(TEST_ENV) FAULTS=$${FAULTS:-all} prove --timer -v t/fault.t


$(BUILD)/bench/%: benchmarks/%.c $(PURE) $(SOURCES) $(HEADERS_DEP)
	@mkdir -p $(BUILD)/bench
	$(CC) -O2 -Wall -Wextra -Wno-unused-parameter $(NGINX_INCS) -o $@ $< \
	    $(PURE) $(PURE_LIBS)

bench: need
	@$(MAKE) --no-print-directory modules
	@benchmarks/run


clean:
	rm -rf $(BUILD)
