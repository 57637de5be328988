// The decoder's part of the addon.

#pragma once

#include <napi.h>

namespace samebits {

// Adds createDecoder, cacheSizeBytes, openCache, runStep and timeStep to the addon.
void define_decoder(Napi::Env env, Napi::Object exports);

}  // namespace samebits
