# Needs CPython 3.11 or later, make and a package index; everything else goes into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DEMO_OUTPUT ?= build/completions.parquet
FUZZ_SECONDS ?= 180

.PHONY: demo test lint nightly fuzz oracle clients model clean

demo: $(VENV)/.installed ## complete the sample prompts with the bundled model
	mkdir -p $(dir $(DEMO_OUTPUT))
	$(BIN)/runner batch jobs/prompts.jsonl $(DEMO_OUTPUT) --overwrite
	$(BIN)/runner inspect $(DEMO_OUTPUT) --rows 6 | tail -n 6

test: $(VENV)/.installed-test ## every test but the nightly ones
	$(BIN)/pytest -m "not nightly and not oracle and not tensorflow and not clients"

lint: $(VENV)/.installed-test ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

nightly: $(VENV)/.installed-test ## the long tests
	$(BIN)/python -m pip install --quiet --editable ".[corpora,fuzz]"
	$(BIN)/pytest -m nightly -n 0

fuzz: $(VENV)/.installed-test ## every parser on hostile input, FUZZ_SECONDS each
	$(BIN)/python -m pip install --quiet --editable ".[fuzz]"
	$(BIN)/python -m tests.fuzz.run all --seconds $(FUZZ_SECONDS)

oracle: $(VENV)-oracle/.installed $(VENV)-tensorflow/.installed ## compare with transformers and TensorFlow, each in an environment of its own
	$(VENV)-oracle/bin/pytest -m oracle -n 0
	$(VENV)-tensorflow/bin/pytest -m tensorflow -n 0

clients: $(VENV)-clients/.installed ## run an exported folder in other programs; those in JavaScript where npm is
	command -v npm && cd tests/clients && npm install --ignore-scripts --no-package-lock --silent || true
	$(VENV)-clients/bin/pytest -m clients -n 0

model: $(VENV)-train/.installed ## train the bundled model again, from scratch
	$(VENV)-train/bin/python -m training.train

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

$(VENV)-oracle/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-oracle
	$(VENV)-oracle/bin/python -m pip install --quiet torch==2.13.0
	$(VENV)-oracle/bin/python -m pip install --quiet --editable ".[test,oracle]"
	touch $@

$(VENV)-clients/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-clients
	$(VENV)-clients/bin/python -m pip install --quiet torch==2.13.0
	$(VENV)-clients/bin/python -m pip install --quiet --editable ".[test,clients]"
	touch $@

$(VENV)-tensorflow/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-tensorflow
	$(VENV)-tensorflow/bin/python -m pip install --quiet --editable ".[test,tensorflow]"
	touch $@

$(VENV)-train/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-train
	$(VENV)-train/bin/python -m pip install --quiet torch==2.13.0
	$(VENV)-train/bin/python -m pip install --quiet --editable ".[train]"
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-clients $(VENV)-oracle $(VENV)-tensorflow $(VENV)-train build dist
