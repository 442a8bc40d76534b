#include "layer_norm_linear/kernel.h"

#include "isa.h"
#include "linear_layers.h"

// -- compiled for each instruction set

namespace reformer::REFORMER_ISA {
namespace {

template <typename Stored>
class LayerNormLinear {
 public:
  LayerNormLinear(const LayerNormLinearArguments& a, Scratch& scratch)
      : a_(a), weight_{static_cast<const Stored*>(a.weight), a.hidden}, blocks_(a.rows) {
    const std::int64_t few = blocks_.are_many() ? 0 : a.rows;
    scratch.reset(2 * Scratch::bytes_of<float>(a.hidden) +
                  Scratch::bytes_of<float>(few * a.hidden));
    norm_weight_ = widened<Stored>(a.norm_weight, a.hidden, scratch);
    norm_bias_ = widened<Stored>(a.norm_bias, a.hidden, scratch);
    normalised_ = scratch.take<float>(few * a.hidden);
  }

  void run(const Parallel& parallel) const {
    if (blocks_.are_many()) {
      blocks_.each(parallel, [&](std::int64_t first) {
        Scratch& scratch = Scratch::of_this_thread();
        scratch.reset(Scratch::bytes_of<float>(blocks_.block_rows() * a_.hidden));
        const Segments normalised = segments(scratch.take<float>(0), first);
        normalise(first, normalised);
        multiply(normalised, first, {0, a_.columns});
      });
      return;
    }
    blocks_.each(parallel, [&](std::int64_t first) {
      normalise(first, segments(normalised_ + first * a_.hidden, first));
    });
    blocks_.each_part(parallel, a_.hidden, a_.columns, [&](std::int64_t first, Range columns) {
      multiply(segments(normalised_ + first * a_.hidden, first), first, columns);
    });
  }

 private:
  Segments segments(float* data, std::int64_t first) const {
    return {data, blocks_.rows_from(first), a_.hidden};
  }

  void normalise(std::int64_t first, const Segments& normalised) const {
    const LayerNorm norm(norm_weight_, norm_bias_, a_.hidden, a_.epsilon);
    normalise_rows(norm, static_cast<const Stored*>(a_.input) + first * a_.hidden, normalised);
  }

  void multiply(const Segments& normalised, std::int64_t first, Range columns) const {
    Stored* output = static_cast<Stored*>(a_.output) + first * a_.columns;
    multiply_segments(
        weight_, normalised, columns,
        [&]<int Count>(std::int64_t row, std::int64_t column) REFORMER_LAMBDA {
          prefetch_tile<Count>(output + row * a_.columns + column, a_.columns, true);
        },
        [&]<int Count, int Vectors>(const Floats(&tile)[Count][Vectors], std::int64_t row,
                                    std::int64_t column) REFORMER_LAMBDA {
          for_each_vector(tile, [&](int r, int v) REFORMER_LAMBDA {
            store_vector(output + (row + r) * a_.columns + column + v * kLanes, tile[r][v]);
          });
        });
  }

  const LayerNormLinearArguments& a_;
  WeightPanels<Stored> weight_;
  const RowBlocks blocks_;
  const float *norm_weight_, *norm_bias_;
  float* normalised_;  // of few rows
};

}  // namespace

void layer_norm_linear(const LayerNormLinearArguments& a, const Parallel& parallel) {
  Scratch& shared = Scratch::of_this_call();
  if (a.dtype == DType::f32)
    LayerNormLinear<float>(a, shared).run(parallel);
  else
    LayerNormLinear<Half>(a, shared).run(parallel);
}

}  // namespace reformer::REFORMER_ISA

// -- compiled once

#ifdef REFORMER_ONCE
namespace reformer {

REFORMER_DISPATCH(layer_norm_linear)

void layer_norm_linear(const LayerNormLinearArguments& arguments, const Parallel& parallel) {
  active_layer_norm_linear()(arguments, parallel);
}

}  // namespace reformer
#endif
