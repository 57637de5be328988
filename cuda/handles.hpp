// The kinds of handles of the addon. Their tags are defined in addon.cc.

#pragma once

#include "arguments.hpp"
#include "decoder.hpp"

namespace samebits {

class Plan;

template <> const napi_type_tag Handle<Device>::tag;
template <> const napi_type_tag Handle<Weight>::tag;
template <> const napi_type_tag Handle<Buffer>::tag;
template <> const napi_type_tag Handle<Plan>::tag;
template <> const napi_type_tag Handle<Decoder>::tag;
template <> const napi_type_tag Handle<DecoderCache>::tag;

}  // namespace samebits
