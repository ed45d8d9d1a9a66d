# Each target makes what it needs first: an environment in .venv with the versions of requirements.lock.
# All is done by .ci/run, which also works where there is no make.

.PHONY: help setup demo quick test newer check bench lock clean

help:
	@echo "make demo   reconstruct examples with the learned manifolds that ship with the package"
	@echo "make quick  run the tests of the quick tier: less than a minute"
	@echo "make test   run the tests"
	@echo "make newer  run the quick tier on Python 3.13, if it is there"
	@echo "make check  lint, formatting, types, layers, import circles, lengths"
	@echo "make bench  measure what README and docs state"
	@echo "make lock   resolve the dependencies anew and write requirements.lock"
	@echo "make clean  remove the environment"

setup demo quick test newer check bench lock:
	@.ci/run $@

clean:
	rm -rf .venv .venv-* .uv build
