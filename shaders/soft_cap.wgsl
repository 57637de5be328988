// soft_cap: logits kept between -cap and cap, in place. Arithmetic comes from elementary.wgsl.
//
// Math:     logit = cap * (1 - 2 / (exp(2 l / cap) + 1)), which is cap * tanh(l / cap).
// Layout:   logits f32[count].
// Threads:  a lane owns one logit, and those a grid further.
// Traffic:  reads and writes 4 count bytes.
// Numerics: DECODER.md, logits. Every sum and product is fenced.
// Limits:   none.

struct Params {
  count: u32,
  cap: f32,
  /// RN32(2 / cap)
  two_over_cap: f32,
  /// 0, which no compiler knows.
  zero: u32,
}

@group(0) @binding(0) var<storage, read_write> logits: array<f32>;
@group(0) @binding(1) var<uniform> p: Params;

@compute @workgroup_size(256)
fn soft_cap(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
  for (var i = id.x; i < p.count; i += 256u * workgroups.x) {
    let z = clamp(mul(logits[i], p.two_over_cap), -80.0, 80.0);
    logits[i] = mul(p.cap, add(1.0, -mul(2.0, rcp(add(exponential(z), 1.0)))));
  }
}
