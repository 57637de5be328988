// The decoder's part of the addon, and the handles of all of its parts.

#pragma once

#include "arguments.hpp"
#include "decoder.hpp"

namespace samebits {

class Plan;

// Defined in addon.cc.
template <> const napi_type_tag Handle<Device>::tag;
template <> const napi_type_tag Handle<Weight>::tag;
template <> const napi_type_tag Handle<Buffer>::tag;
template <> const napi_type_tag Handle<Plan>::tag;
template <> const napi_type_tag Handle<Decoder>::tag;
template <> const napi_type_tag Handle<DecoderCache>::tag;

// Adds createDecoder, cacheSizeBytes, openCache, runStep and timeStep to the addon.
void define_decoder(Napi::Env env, Napi::Object exports);

}  // namespace samebits
