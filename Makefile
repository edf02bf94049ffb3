# The verbs of this repository. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.NOTPARALLEL:

# Where the Python environment lives, and which Python makes it.
VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || echo python3)

# An apt ROS 2 that has been sourced is used as it is; everywhere else ROS 2 comes from wheels.
APT_ROS := $(shell [ -n "$$ROS_DISTRO" ] && [ -d "/opt/ros/$$ROS_DISTRO" ] && python3 -c 'import rclpy' 2>/dev/null && echo yes)
ifeq ($(APT_ROS),yes)
  PYTHON := python3
  ROS_WHEELS := no
else
  ROS_WHEELS := yes
endif

ENVIRONMENT := $(VENV)/.minidiffuser_ros_$(ROS_WHEELS)
OVERLAY := install/.built
OVERLAY_INPUTS := CMakeLists.txt package.xml scripts/build_overlay.sh scripts/node.py.in scripts/probe_gl.py \
  $(wildcard msg/*.msg srv/*.srv action/*.action launch/* config/* models/*)

# What a checkpoint consists of; the state to go on training from stays behind.
POLICY_FILES := model.safetensors config.json training.json eval.json README.md

ENV := source ./env.sh &&
# A domain of its own for each run, so that two runs on one machine never hear each other.
ENV_RUN := $(ENV) export ROS_DOMAIN_ID=$$((RANDOM % 100 + 1)) &&

.PHONY: help build format check test demo policy policy-tabletop tabletop-demos tabletop-start policy-push-t clean

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 26

build: $(OVERLAY) ## install what is missing, make the environment, build the messages
	@echo "built; next: source env.sh"

$(ENVIRONMENT): setup.py scripts/system_packages.sh scripts/install_environment.sh scripts/mend_wheels.py
	scripts/system_packages.sh $(PYTHON)
	scripts/install_environment.sh $(PYTHON) $(VENV) $(ROS_WHEELS)
	@touch $@

$(OVERLAY): $(ENVIRONMENT) $(OVERLAY_INPUTS)
	scripts/build_overlay.sh $(VENV)
	@touch $@

format: build ## format the sources and mend what can be mended
	$(ENV) ruff format . && ruff check --fix .

check: build ## formatting, lint and types
	$(ENV) ruff format --check . && ruff check . && mypy

test: build ## all tests, with the real ROS graph and the simulated arm; ARGS="-k arm" to choose
	$(ENV_RUN) python -m pytest $(ARGS)

demo: build ## six sentences through the live graph on the simulated arm; pictures in out/demo
	$(ENV_RUN) minidiffuser demo --out out/demo

# Each step goes on where it was stopped. The shipped policy is replaced only by one that was trained and measured.
# All in one thread: a second brings a fifth on an idle machine, and costs tenfold where anything else runs.
policy: build ## the shipped policy from nothing: demonstrations, training, pruner, evaluation
	$(ENV_RUN) minidiffuser demos --out data/tabletop_small --per-task 800
	$(ENV_RUN) minidiffuser train data/tabletop_small --out runs/tabletop_small --steps 2000
	$(ENV_RUN) minidiffuser prune runs/tabletop_small --data data/tabletop_small
	$(ENV_RUN) minidiffuser evaluate runs/tabletop_small --episodes 50 --json runs/tabletop_small/eval.json --card
	install -D -m 644 -t models/tabletop_small $(addprefix runs/tabletop_small/,$(POLICY_FILES))
	for part in pruner trust; do \
	  install -D -m 644 -t models/tabletop_small/$$part runs/tabletop_small/$$part/{config.json,model.safetensors}; done

# The policy of all tasks. On two cores its last training begins with weights that lie in models/, and takes an hour;
# ON=gpu trains the published size from nothing. Where millimetres or several right answers count there are more
# demonstrations, and some in which two things are right.
ON ?= cpu
TABLETOP := runs/$(ON)/tabletop
BEGUN_cpu := --from models/tabletop_small --steps 5000
MORE_cpu := --learning-rate 1.5e-3
BEGUN_gpu := --network mini_diffuser_base --steps 15000 --device cuda
MORE_gpu := --network mini_diffuser_base --learning-rate 1e-3 --device cuda
START_cpu := models/tabletop_start
START_gpu := $(TABLETOP)_mixed
HARD := close_jar push_buttons slide_block_to_target stack_blocks
SHIFTS := paraphrases camera lighting distractors looks
DEMOS := minidiffuser demos --out data/tabletop --points 1024 --disturbed 0.8
# PROCESSES=2 is for two idle cores; a training goes on with another number than it began with.
PROCESSES ?= 1
TRAIN := $(if $(filter 1,$(PROCESSES)),minidiffuser,torchrun --standalone --nproc-per-node $(PROCESSES) \
  -m minidiffuser_ros.cli.main) train --schedule flow_matching
LOGGED = | tee -a $(TABLETOP).log

policy-tabletop: build tabletop-demos $(if $(filter gpu,$(ON)),tabletop-start) ## the policy of all tasks, on two cores or with ON=gpu
	$(ENV_RUN) $(TRAIN) data/tabletop --out $(TABLETOP) --from $(START_$(ON)) --steps 3000 $(MORE_$(ON)) $(LOGGED)
	$(ENV_RUN) minidiffuser prune $(TABLETOP) --data data/tabletop --sampler ddim --sampler-steps 10 --rate 0.6 \
	  --own-buffers --teacher policy --steps 60 --batch-size 16 $(LOGGED)
	$(ENV_RUN) minidiffuser evaluate $(TABLETOP) --episodes 50 --json $(TABLETOP)/eval.json $(LOGGED)
	for shift in $(SHIFTS); do $(ENV_RUN) minidiffuser evaluate $(TABLETOP) --shift $$shift --episodes 5 \
	  --json $(TABLETOP)/eval_$$shift.json $(LOGGED) || exit; done
	$(ENV_RUN) minidiffuser evaluate $(TABLETOP) --live --episodes 5 --json $(TABLETOP)/eval_live.json \
	  --card --recipe "make policy-tabletop ON=$(ON) PROCESSES=$(PROCESSES)" $(LOGGED)
	install -D -m 644 -t models/tabletop $(addprefix $(TABLETOP)/,$(POLICY_FILES)) $(TABLETOP)/eval_*.json
	for part in pruner trust; do \
	  install -D -m 644 -t models/tabletop/$$part $(TABLETOP)/$$part/{config.json,model.safetensors}; done
	install -m 644 -t models/tabletop/pruner $(TABLETOP)/pruner/training.json

tabletop-demos: build
	mkdir -p $(dir $(TABLETOP))
	$(ENV_RUN) $(DEMOS) --all --per-task 100 $(LOGGED)
	$(ENV_RUN) $(DEMOS) --tasks $(HARD) --per-task 200 $(LOGGED)
	$(ENV_RUN) $(DEMOS) --tasks drag_with_stick sort_shape --per-task 400 $(LOGGED)
	$(ENV_RUN) $(DEMOS) --tasks insert_ring_on_peg --per-task 800 $(LOGGED)
	$(ENV_RUN) $(DEMOS) --tasks push_button stack_pair --per-task 100 --seed 5000 --shift doubles $(LOGGED)

# The ring, whose place depends on the turn of the pegs, is learned by itself: among all tasks it is drowned out.
tabletop-start: build tabletop-demos ## weights for policy-tabletop to begin with, from nothing; an estimated three hours of two cores
	$(ENV_RUN) $(TRAIN) data/tabletop --out $(TABLETOP)_begun $(BEGUN_$(ON)) $(LOGGED)
	$(ENV_RUN) $(TRAIN) data/tabletop --out $(TABLETOP)_more --from $(TABLETOP)_begun --steps 2000 $(MORE_$(ON)) $(LOGGED)
	$(ENV_RUN) $(TRAIN) data/tabletop/insert_ring_on_peg --out $(TABLETOP)_ring --from $(TABLETOP)_more --steps 400 \
	  $(MORE_$(ON)) $(LOGGED)
	if [ ! -f $(TABLETOP)_mixed/config.json ]; then $(ENV_RUN) \
	  minidiffuser average $(TABLETOP)_more $(TABLETOP)_ring --out $(TABLETOP)_mixed $(LOGGED); fi

policy-push-t: build ## the transformer that pushes a T, and its pruner, from nothing; an hour of two cores
	$(ENV_RUN) python benchmarks/push_t_demonstrations.py data/push_t --count 700
	$(ENV_RUN) python benchmarks/push_t_demonstrations.py data/push_t --seed 210000 --count 160 --near
	$(ENV_RUN) minidiffuser train-actions data/push_t --features push_t --out runs/push_t --width 64 --horizon 10 \
	  --state-mlp 256 256 256 --prediction sample --learning-rate 1.5e-3 --steps 30000
	$(ENV_RUN) minidiffuser prune runs/push_t --data data/push_t --own-buffers --teacher policy --steps 60 --batch-size 16
	install -D -m 644 -t models/push_t runs/push_t/{model.safetensors,config.json,training.json}
	install -D -m 644 -t models/push_t/pruner runs/push_t/pruner/{config.json,model.safetensors}

clean: ## remove what was built or made by runs; keeps the environment, data/ and models/
	rm -rf build install log out .pytest_cache .ruff_cache .mypy_cache *.egg-info
	find minidiffuser_ros test scripts launch -name __pycache__ -type d -prune -exec rm -rf {} +
