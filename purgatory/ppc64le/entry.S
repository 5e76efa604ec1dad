/* SPDX-License-Identifier: BSD-3-Clause */
#define LITTLE
#include "../powerpc/entry64.h"
