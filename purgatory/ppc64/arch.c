// SPDX-License-Identifier: BSD-3-Clause
#include "cached.h"

#include "../powerpc/arch64.h"
