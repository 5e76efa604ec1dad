/* SPDX-License-Identifier: BSD-3-Clause */
#include "../powerpc/exec64.h"
