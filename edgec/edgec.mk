# Cross builds with Make. In your Makefile:
#
#     TARGETS = rpi4-int8 x86-64-int8
#     include $(shell edgec makefile)
#
# `make -j2 dist` then builds dist/<target>/ for each target, in parallel; again, it does nothing. Touch the model,
# its weights, data, a target or edgec.toml, and just the bundles that depend on it are built anew. A bundle that lacks
# artifacts fails its target, and is tried again the next time; `make -k` builds the other targets all the same.
#
# EDGEC        the command                                     (edgec)
# EDGEC_FLAGS  more flags for `edgec build`                    (none)
# PROJECT      folder of edgec.toml                            (.)
# DIST         folder of the bundles                           ($(PROJECT)/dist)
# TARGETS      targets to build                                (rpi4-int8)

EDGEC ?= edgec
PROJECT ?= .
DIST ?= $(PROJECT)/dist
TARGETS ?= rpi4-int8

EDGEC_MANIFESTS := $(TARGETS:%=$(DIST)/%/manifest.json)

.PHONY: dist
dist: $(EDGEC_MANIFESTS)

$(EDGEC_MANIFESTS): $(DIST)/%/manifest.json:
	@# what failed must be tried again the next time, though there is a bundle: one without some of its artifacts
	$(EDGEC) build --project $(PROJECT) --target $* --out $(abspath $(DIST)) --depfile $(DIST)/.deps/$*.d $(EDGEC_FLAGS) \
	  || { code=$$?; test ! -e $@ || touch -d @0 $@; exit $$code; }

-include $(TARGETS:%=$(DIST)/.deps/%.d)
