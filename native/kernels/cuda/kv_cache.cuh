// The page layout, for kernels.
#pragma once

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/kv_cache.h"
#include "kernels/cuda/kv_layout.h"
