"""How the emulator runs kernels: memory, control flow, barriers, and the faults that it finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .errors import KernelFault, LaunchError, PtxSyntaxError
from .machine import Program
from .memory import Buffer
from .snippets import kernel

BUFFER = ".u64 .ptr .global"
START = (
    ".reg .b32 %t, %i, %n, %v, %w; .reg .b64 %at, %base, %x; .reg .pred %p, %q; mov.u32 %t, %tid.x;"
)
STORE = "ld.param.b64 %base, [out]; mad.wide.u32 %at, %t, 4, %base; st.global.b32 [%at], %v;"


def run(
    body: str,
    *,
    threads: int = 64,
    shared: int = 0,
    grid: tuple[int, ...] = (1,),
    size: int | None = None,
) -> np.ndarray[Any, Any]:
    """Run the body, with the thread's number in %t; returns the output, one word per thread."""
    text = kernel([f"{BUFFER} out"], f"{START}\n{body}", threads=threads, shared=shared)
    found = np.zeros(threads if size is None else size, np.uint32)
    Program(text).launch(grid, [Buffer("out", found, output=True)])
    return found


def test_loop_with_another_count_in_every_thread() -> None:
    """Threads leave at different times and meet again after the loop."""
    found = run(f"""
        mov.u32 %i, 0; mov.u32 %v, 0;
    $loop:
        add.u32 %v, %v, %i;
        add.u32 %i, %i, 1;
        setp.le.u32 %p, %i, %t;
        @%p bra $loop;
        bar.sync 0;
        {STORE}
    """)
    assert found.tolist() == [t * (t + 1) // 2 for t in range(64)]


def test_branches_inside_branches() -> None:
    found = run(f"""
        and.b32 %i, %t, 1; and.b32 %n, %t, 2;
        setp.eq.u32 %p, %i, 0; setp.eq.u32 %q, %n, 0;
        @%p bra $even;
        mov.u32 %v, 10;
        @!%q bra $end;
        mov.u32 %v, 11;
        bra.uni $end;
    $even:
        @%q bra $low;
        mov.u32 %v, 20;
        bra.uni $end;
    $low:
        mov.u32 %v, 21;
    $end:
        activemask.b32 %w;
        setp.ne.u32 %p, %w, 0xffffffff;
        @%p trap;
        {STORE}
    """)
    assert found.tolist() == [(21, 11, 20, 10)[t % 4] for t in range(64)]


def test_ctas_know_their_place_and_may_end_early() -> None:
    """More CTAs than are emulated at once; those beyond the third along x have nothing to do."""
    body = f"""
        .reg .b32 %c<3>, %g<2>;
        mov.u32 %c0, %ctaid.x; mov.u32 %c1, %ctaid.y; mov.u32 %c2, %ctaid.z;
        mov.u32 %g0, %nctaid.x; mov.u32 %g1, %nctaid.y;
        setp.ge.u32 %p, %c0, 3;
        @%p ret;
        mad.lo.u32 %i, %c2, %g1, %c1;
        mad.lo.u32 %i, %i, 3, %c0;
        mad.lo.u32 %t, %i, 64, %t;
        mad.lo.u32 %v, %c2, 100, %c1; mad.lo.u32 %v, %v, 100, %c0;
        {STORE}
    """
    found = run(body, grid=(5, 7, 4), size=3 * 7 * 4 * 64).reshape(4, 7, 3, 64)
    z, y, x = np.meshgrid(range(4), range(7), range(3), indexing="ij")
    assert (found == ((z * 100 + y) * 100 + x)[..., None]).all()


EXCHANGE = """
    mov.u32 %i, tile; mad.lo.u32 %n, %t, 4, %i; st.shared.b32 [%n], %t;
    {barrier}
    sub.u32 %n, {last}, %t; mad.lo.u32 %n, %n, 4, %i; ld.shared.b32 %v, [%n];
"""


def test_exchange_through_shared_memory() -> None:
    found = run(EXCHANGE.format(barrier="bar.sync 0;", last=63) + STORE, shared=256)
    assert found.tolist() == list(range(63, -1, -1))


def test_exchange_without_a_barrier_is_a_race() -> None:
    with pytest.raises(KernelFault, match=r"race: .*written since the last barrier; line \d+"):
        run(EXCHANGE.format(barrier="", last=63) + STORE, shared=256)


def test_a_barrier_of_a_warp_orders_the_warp_only() -> None:
    body = EXCHANGE.format(barrier="bar.warp.sync 0xffffffff;", last=31) + STORE
    assert run(body, shared=128, threads=32).tolist() == list(range(31, -1, -1))
    body = EXCHANGE.format(barrier="bar.warp.sync 0xffffffff;", last=63) + STORE
    with pytest.raises(KernelFault, match="race"):
        run(body, shared=256)


def test_writing_what_others_may_still_read_is_a_race() -> None:
    body = EXCHANGE.format(barrier="bar.sync 0;", last=63)
    again = "mad.lo.u32 %n, %t, 4, %i; st.shared.b32 [%n], %v;"
    with pytest.raises(KernelFault, match=r"race: .* read since the last barrier"):
        run(body + again + STORE, shared=256)
    assert run(body + "bar.sync 0;" + again + STORE, shared=256)[0] == 63


def test_writing_one_place_at_once_is_a_race_unless_values_are_equal() -> None:
    code = "mov.u32 %i, tile; st.shared.b32 [%i], {value}; bar.sync 0; ld.shared.b32 %v, [%i];"
    assert (run(code.format(value=7) + STORE, shared=16) == 7).all()
    with pytest.raises(KernelFault, match="two threads write different values"):
        run(code.format(value="%t") + STORE, shared=16)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("ld.shared.b32 %v, [tile+16];", "where nothing was written"),
        ("st.shared.b32 [tile+256], %t;", "shared memory, of which there are 256"),
        ("st.shared.b32 [tile+2], 1;", "misaligned write of 4 bytes of shared memory"),
        ("ld.shared.v2.b32 {%v, %w}, [tile+4];", "misaligned read of 8 bytes"),
        ("ld.global.b32 %v, [%base];", "where nothing was written yet"),
        ("ld.global.b32 %v, [%base+256];", "of out, which has 256"),
        ("ld.global.b32 %v, [%base+-4];", "an address in no buffer"),
        ("st.global.b32 [%base+2], 1;", "misaligned write of 4 bytes in out"),
        ("mov.b64 %x, 0; ld.global.b32 %v, [%x];", "an address in no buffer"),
        ("div.u32 %v, %t, %t;", "division by zero"),
        ("add.u32 %v, %w, 1;", "%w, which was never written"),
        ("trap;", "trap"),
        ("setp.lt.u32 %p, %t, 32; @%p bar.sync 0;", "not all threads of a CTA arrive"),
    ],
)
def test_what_has_no_defined_result_is_a_fault(code: str, message: str) -> None:
    with pytest.raises(KernelFault, match=message):
        run(f"ld.param.b64 %base, [out]; {code} mov.u32 %v, 0; {STORE}", shared=256)


def test_outputs_must_be_complete_and_inputs_stay() -> None:
    with pytest.raises(KernelFault, match="nothing was written to byte 128 of output out"):
        run(f"setp.ge.u32 %p, %t, 32; @%p ret; mov.u32 %v, 1; {STORE}")
    text = kernel([f"{BUFFER} out"], f"{START} mov.u32 %v, 1; {STORE}")
    with pytest.raises(KernelFault, match="write to out, an input"):
        Program(text).launch((1,), [Buffer("out", np.zeros(32, np.uint32))])


def test_loads_and_stores_of_every_width() -> None:
    data = np.arange(1, 2049, dtype=np.uint8)
    body = """
        .reg .b16 %h<2>; .reg .b64 %out, %d<2>; .reg .b32 %q<4>;
        ld.param.b64 %base, [in]; ld.param.b64 %out, [out];
        mad.wide.u32 %base, %t, 64, %base; mad.wide.u32 %out, %t, 64, %out;
        ld.global.nc.L1::evict_last.b8 %h0, [%base]; st.global.b8 [%out], %h0;
        ld.global.b8 %i, [%base+1]; st.global.b8 [%out+1], %i;
        ld.global.b16 %h1, [%base+2]; st.global.cg.b16 [%out+2], %h1;
        ld.global.b32 %v, [%base+4]; st.global.b32 [%out+4], %v;
        ld.volatile.global.b64 %d0, [%base+8]; st.global.b64 [%out+8], %d0;
        ld.global.v2.b64 {%d0, %d1}, [%base+16]; st.global.v2.b64 [%out+16], {%d0, %d1};
        ld.global.v4.b32 {%q0, %q1, %q2, %q3}, [%base+32];
        st.global.v4.b32 [%out+32], {%q0, %q1, %q2, %q3};
        ld.global.v2.b16 {%h0, %h1}, [%base+48]; st.global.v2.b16 [%out+48], {%h0, %h1};
        ld.global.v2.b32 {%v, %w}, [%base+56]; st.global.v2.b32 [%out+56], {%v, %w};
        ld.global.b32 %v, [%base+52]; st.global.b32 [%out+52], %v;
    """
    text = kernel([f"{BUFFER} in", f"{BUFFER} out"], START + body)
    found = np.zeros_like(data)
    Program(text).launch((1,), [Buffer("in", data), Buffer("out", found, output=True)])
    assert (found == data).all()


def test_loads_extend_by_the_sign_of_the_type() -> None:
    text = kernel(
        [f"{BUFFER} in", f"{BUFFER} out"],
        f"{START} ld.param.b64 %x, [in]; ld.global.s8 %v, [%x]; ld.global.u8 %w, [%x];"
        f" sub.u32 %v, %w, %v; {STORE}",
    )
    found = np.zeros(32, np.uint32)
    Program(text).launch(
        (1,), [Buffer("in", np.array([0x80], np.uint8)), Buffer("out", found, output=True)]
    )
    assert (found == 256).all()  # 128 - (-128)


def test_atomics_take_turns() -> None:
    """Every thread finds a different count, and the sum is right."""
    found = run(
        f"""
        setp.eq.u32 %p, %t, 0; mov.u32 %i, tile;
        @%p st.shared.b32 [%i], 0;
        bar.sync 0;
        atom.relaxed.cta.shared.add.u32 %v, [%i], 2;
        bar.sync 0;
        ld.shared.b32 %w, [%i];
        setp.ne.u32 %p, %w, 128;
        @%p trap;
        {STORE}
        """,
        shared=16,
    )
    assert sorted(found.tolist()) == list(range(0, 128, 2))
    with pytest.raises(KernelFault, match="changed by an atomic since the last barrier"):
        run(
            f"mov.u32 %i, tile; setp.eq.u32 %p, %t, 0; @%p st.shared.b32 [%i], 0; bar.sync 0;"
            f" atom.shared.add.u32 %v, [%i], 2; ld.shared.b32 %w, [%i]; {STORE}",
            shared=16,
        )


@pytest.mark.parametrize(
    ("name", "start", "wanted"),
    [
        ("min.u32", 1000, 0),
        ("max.u32", 5, 63),
        ("or.b32", 0, 63),
        ("and.b32", 0xFF, 0),
        ("exch.b32", 99, None),
    ],
)
def test_atomics_on_global_memory(name: str, start: int, wanted: int | None) -> None:
    text = kernel(
        [f"{BUFFER} out"],
        f"{START} ld.param.b64 %base, [out]; red.global.gpu.{name} [%base], %t;"
        if not name.startswith("exch")
        else f"{START} ld.param.b64 %base, [out]; atom.global.{name} %v, [%base], %t;",
        threads=64,
    )
    place = np.array([start], np.uint32)
    Program(text).launch((1,), [Buffer("out", place, read_only=False)])
    assert place[0] == (63 if wanted is None else wanted)


COPY = """
    ld.param.b64 %base, [in]; mad.wide.u32 %at, %t, 16, %base;
    mov.u32 %i, tile; mad.lo.u32 %n, %t, 16, %i;
    cp.async.cg.shared.global [%n], [%at], 16{size};
    cp.async.commit_group;
    {wait}
    bar.sync 0;
    sub.u32 %n, 31, %t; mad.lo.u32 %n, %n, 16, %i; ld.shared.b32 %v, [%n];
"""


def copied(wait: str, size: str = "") -> np.ndarray[Any, Any]:
    text = kernel(
        [f"{BUFFER} in", f"{BUFFER} out"],
        START + COPY.format(wait=wait, size=size) + STORE,
        shared=512,
    )
    found = np.zeros(32, np.uint32)
    source = np.arange(128, dtype=np.uint32)
    Program(text).launch((1,), [Buffer("in", source), Buffer("out", found, output=True)])
    return found


def test_asynchronous_copies() -> None:
    backwards = [4 * t for t in range(31, -1, -1)]
    assert copied("cp.async.wait_group 0;").tolist() == backwards
    assert copied("cp.async.wait_all;").tolist() == backwards
    assert copied("cp.async.wait_all;", ", 0").tolist() == [0] * 32
    with pytest.raises(KernelFault, match="where nothing was written"):
        copied("cp.async.wait_group 1;")  # this copy is then still pending
    with pytest.raises(KernelFault, match="where nothing was written"):
        copied("")


def test_launches_that_do_not_fit() -> None:
    ptx = kernel([f"{BUFFER} out", ".u32 n"], f"{START} mov.u32 %v, 1; {STORE}")
    program = Program(ptx)
    out = Buffer("out", np.zeros(32, np.uint32), output=True)
    with pytest.raises(LaunchError, match="takes 2 arguments; got 1"):
        program.launch((1,), [out])
    with pytest.raises(LaunchError, match="n is a number; got a buffer"):
        program.launch((1,), [out, out])
    with pytest.raises(LaunchError, match="out is a pointer; got 5"):
        program.launch((1,), [5, 5])
    with pytest.raises(LaunchError, match="cannot be launched"):
        program.launch((0,), [out, 5])
    with pytest.raises(LaunchError, match=r"\(64, 1, 1\) threads"):
        program.launch((1,), [out, 5], block=(64, 1, 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mov.b32 %r1, 0;", "%r1 is not declared"),
        (".reg .b32 %r<2>; mov.b32 %r2, 0;", "%r2 is not declared"),
        (".reg .b33 %r;", "wanted a type"),
        ("bra $nowhere;", "unknown labels: \\$nowhere"),
        ("?", "cannot read"),
    ],
)
def test_text_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(PtxSyntaxError, match=message):
        Program(kernel([], text))
