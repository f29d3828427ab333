#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# models_check.sh
#
# The models of the protocols, and mutations of them (tests/models/run.sh). 77 without SPIN.
exec bash "$(dirname "$0")/models/run.sh" "$@"
