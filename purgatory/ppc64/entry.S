/* SPDX-License-Identifier: BSD-3-Clause */
#include "../powerpc/entry64.h"
