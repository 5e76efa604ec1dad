/* SPDX-License-Identifier: BSD-3-Clause */
#include "../powerpc/syscalls.h"
