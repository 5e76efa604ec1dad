// SPDX-License-Identifier: BSD-3-Clause
#include "purgatory.h"

#include "../powerpc/arch64.h"
