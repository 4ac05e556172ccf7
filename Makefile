# make demo, make test: each sets up all it needs in a virtual environment first. `make` lists the rest.

# A shell with a ROS sourced, or a child of another environment's Python, hands down variables that would
# mix that ROS into the wheels' one.
unexport AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH LD_LIBRARY_PATH PYTHONHOME PYTHONPATH
unexport RMW_IMPLEMENTATION ROS_PYTHON_VERSION ROS_VERSION VIRTUAL_ENV _ROS_WHEELS_BOOTSTRAP_COMPLETE

ifeq ($(origin ROS_DISTRO),environment)
  ifneq ($(filter-out jazzy,$(ROS_DISTRO)),)
    $(info The shell's ROS_DISTRO=$(ROS_DISTRO) is not used here; another ROS than jazzy: make ROS_DISTRO=kilted ...)
  endif
endif
ROS_DISTRO := jazzy
PYTHON ?= python3
VENV := .venv$(addprefix -,$(filter-out jazzy,$(ROS_DISTRO)))
RUN := $(VENV)/bin/python

.PHONY: help
help:
	@echo "make demo          images in, skeletons out, over ROS 2: writes a bag and a picture to out/"
	@echo "                   of your own video: make demo VIDEO=file [OUT=folder]"
	@echo "make test          the tests; only some: make test ARGS='-n 0 -k camera'"
	@echo "make lint          ruff and mypy"
	@echo "make clean         remove the virtual environments and all caches"
	@echo "with ROS 2 Kilted: make ROS_DISTRO=kilted demo;  with another Python: make PYTHON=python3.12 demo"

.PHONY: setup
setup:
	@command -v $(PYTHON) >/dev/null || { echo "stsp needs Python 3.10, 3.11 or 3.12, and there is no" \
	  "$(PYTHON): sudo apt install python3 python3-venv python3-dev" >&2; exit 1; }
	@$(PYTHON) scripts/set_up.py --ros-distro '$(ROS_DISTRO)' --venv '$(VENV)'

.PHONY: demo
demo: setup
	$(VENV)/bin/stsp demo $(if $(VIDEO),--video '$(VIDEO)',--bag assets/sample.mcap) $(if $(OUT),--out '$(OUT)')

# Two processes, a file of tests each at a time; more threads of PyTorch would fight for their cores.
.PHONY: test
test: export OMP_NUM_THREADS := 1
test: setup
	$(RUN) -m pytest -n 2 --dist loadfile $(ARGS)

.PHONY: lint
lint: setup
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy

.PHONY: clean
clean:
	rm -rf .venv .venv-* build install log *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
