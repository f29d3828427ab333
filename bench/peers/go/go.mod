// SPDX-License-Identifier: MIT
module bench

go 1.23
