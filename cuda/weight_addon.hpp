// The weights' part of the addon.

#pragma once

#include <napi.h>

namespace samebits {

// Adds what CudaWeight calls.
void define_weights(Napi::Env env, Napi::Object exports);

}  // namespace samebits
