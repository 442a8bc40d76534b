#include "linear_add/kernel.h"

#include "isa.h"
#include "linear_layers.h"

// -- compiled for each instruction set

namespace reformer::REFORMER_ISA {
namespace {

template <typename Stored>
class LinearAdd {
 public:
  explicit LinearAdd(const LinearAddArguments& a)
      : a_(a), weight_{static_cast<const Stored*>(a.weight), a.depth}, blocks_(a.rows) {}

  void run(const Parallel& parallel) const {
    if (blocks_.are_many())
      blocks_.each(parallel, [&](std::int64_t first) { multiply(first, {0, a_.hidden}); });
    else
      blocks_.each_part(parallel, a_.depth, a_.hidden,
                        [&](std::int64_t first, Range columns) { multiply(first, columns); });
  }

 private:
  void multiply(std::int64_t first, Range columns) const {
    const Stored* residual = static_cast<const Stored*>(a_.residual) + first * a_.hidden;
    Stored* output = static_cast<Stored*>(a_.output) + first * a_.hidden;
    Scratch& scratch = Scratch::of_this_thread();
    scratch.reset(Scratch::bytes_of<float>(blocks_.rows_from(first) * a_.depth));
    const Segments input{scratch.take<float>(0), blocks_.rows_from(first), a_.depth};
    copy_rows(static_cast<const Stored*>(a_.input) + first * a_.depth, input);
    multiply_segments(
        weight_, input, columns,
        [&]<int Count>(std::int64_t row, std::int64_t column) REFORMER_LAMBDA {
          prefetch_tile<Count>(residual + row * a_.hidden + column, a_.hidden, false);
          prefetch_tile<Count>(output + row * a_.hidden + column, a_.hidden, true);
        },
        [&]<int Count, int Vectors>(const Floats(&tile)[Count][Vectors], std::int64_t row,
                                    std::int64_t column) REFORMER_LAMBDA {
          for_each_vector(tile, [&](int r, int v) REFORMER_LAMBDA {
            const std::int64_t place = (row + r) * a_.hidden + column + v * kLanes;
            store_sum(output + place, residual + place, tile[r][v]);
          });
        });
  }

  const LinearAddArguments& a_;
  WeightPanels<Stored> weight_;
  const RowBlocks blocks_;
};

}  // namespace

void linear_add(const LinearAddArguments& a, const Parallel& parallel) {
  if (a.dtype == DType::f32)
    LinearAdd<float>(a).run(parallel);
  else
    LinearAdd<Half>(a).run(parallel);
}

}  // namespace reformer::REFORMER_ISA

// -- compiled once

#ifdef REFORMER_ONCE
namespace reformer {

REFORMER_DISPATCH(linear_add)

void linear_add(const LinearAddArguments& arguments, const Parallel& parallel) {
  active_linear_add()(arguments, parallel);
}

}  // namespace reformer
#endif
