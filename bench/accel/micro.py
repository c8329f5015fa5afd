"""Writes micro/NAME.sdas (text of spec section 8) and micro/NAME.json with what must come out: output digest, PE cycles, total cycles, DRAM bytes.
Cases are those of golden.txt A (three inputs each) and some with random data and activation-row skipping."""
import hashlib, json, os
import numpy as np
import golden as g, isa, ref
from machine import Asm, Machine, view, load, bits_of
from golden import W, cd, strips

OUT = os.path.join(g.HERE, 'micro')
os.makedirs(OUT, exist_ok=True)


def gran(addr, n):
    return 16 * g.granules(addr, n)


def build(name, w, C, H, x, stride=1, pad=0, dil=1, bser=0, wskip=1, askip=0, fold=1, alpha=(1, 2, 4, 8, 16, 32, 64), row=0, seed=1, depthwise=False, dwmap=1):
    rng = np.random.default_rng(seed)
    M, R, S = w.M, w.R, w.S
    E = F = (H + 2 * pad - (R - 1) * dil - 1) // stride + 1
    a = Asm()
    xs = x.astype(np.uint8)
    xd = a.data(xs.tobytes())
    yd = a.data(bytes(M * E * F))
    codes = None
    if w.kind == 'sd':
        n, r, s, Q = len(alpha), w.r, w.s, w.Q
        keep = np.repeat(w.kept, w.G or M, 0)[:M]
        codes = rng.integers(-n, n + 1, (M, Q, r)) * keep[:, :, None]
        T = cd(Q, w.slice_rows)
        B, sh = rng.integers(-100, 101, (T, r, s)), rng.integers(2, 7, T)
        val = np.array((0,) + tuple(alpha))
        rows = np.zeros((M, Q, s), np.int64)
        for q in range(Q):
            t = q // w.slice_rows
            rows[:, q] = np.clip(((np.sign(codes[:, q]) * val[abs(codes[:, q])]) @ B[t] + ((1 << sh[t]) >> 1)) >> sh[t], -128, 127) * keep[:, q:q + 1]
        w8 = rows.reshape(M, -1)[:, :w.n].reshape(M, w.C, R, S)
    else:
        w8 = rng.integers(-128, 128, (M, w.C, R, S))
    bias, mul = rng.integers(-3000, 3000, M), rng.integers(1 << 18, 1 << 20, M)
    at = dict(group=str(C if depthwise else 1), strides=[stride] * 2, dilations=[dil] * 2, pads=[pad] * 4)
    acc = ref.conv(x[None].astype(np.int64), w8, bias, at)
    shift = int(np.round(np.log2(acc.std() * mul.mean() / 80)))       # results that use the range
    want = ref.rq(acc * mul[None, :, None, None], shift, 0, 0, 255)[0].astype(np.uint8)
    ev, pe = [], 0

    def put(op, eng=None, wait=(), sig=(), cost=None, **v):
        a.code.append(dict(op=op, eng=eng or isa.OPS[op][1], wait=list(wait), sig=list(sig), v=v))
        ev.append(dict(eng=(eng or isa.OPS[op][1]).upper(), wait=[k.upper() for k in wait], sig=[k.upper() for k in sig], **cost))

    def reg(file, i, eng, **v):
        f = isa.REGS[file]
        put('cfg', eng, cost=dict(dur=1), file=f[0], index=i, value=isa.pack(f[1], v))

    r = g.dw(C, H, H, R, S, stride, pad=pad, x=x, bser=bser, dwmap=dwmap, EF=(E, F)) if depthwise else \
        g.conv(x, w, stride=stride, pad=pad, dil=dil, bser=bser, wskip=wskip, askip=askip, fold=fold)
    assert cd(C, 16) * H * H <= 16384
    reg('view', 0, 'ld', half=0, base=0, chans=C, rows=H, pitch=H, sy=1, sx=1)
    put('ldm', view=0, dram=xd, cstride=H * H, c0=0, n=C, y0=0, rows=H, cost=dict(bytes=sum(gran(xd + k * H * H, H * H) for k in range(C))))
    read, tiles = C * H * H, sorted({s[0] for s in r['list']})
    reg('view', 0, 'pe', half=0, base=0, chans=C, rows=H, pitch=H, sy=1, sx=1)
    reg('geom', 0, 'pe', kh=R, kw=S, uy=stride, ux=stride, dy=dil, dx=dil, pt=pad, pl=pad, c=1 if depthwise else C, wskip=wskip, askip=askip, bser=bser, dwmap=dwmap,
        fold={1: 0, 2: 1, 4: 2}[fold])
    reg('fmt', 0, 'pe', **(dict(sd=1, s=w.s, r=w.r, row=row, n=len(alpha), slice=w.slice_rows, g=min(64, w.G), **{f'a{i}': v for i, v in enumerate(alpha)})
                           if w.kind == 'sd' else dict(sd=0)))
    reg('quant', 0, 'pe', z=0, shift=shift, yz=0, lo=0, hi=255)
    L = 2 * len(alpha) + 1
    for m0 in tiles:
        m = min(64, M - m0)
        free = ['pe'] if m0 else []                                  # the last conv of the tile before frees the weights
        if w.kind == 'sd':
            st = []
            for f in range(m0, m0 + m):
                sel = [codes[f, q] for q in range(w.Q) if keep[f, q]]
                if row:
                    v = []
                    for c in sel:
                        t = 0
                        for y in c:
                            t = t * L + int(y) + len(alpha)
                        v.append(t)
                    st.append(bits_of(v, w.rowbits))
                else:
                    st.append(bits_of([abs(int(y)) | (8 if y < 0 else 0) for c in sel for y in c], 4))
            per = max(map(len, st))
            blob = b''.join(b.ljust(per, b'\0') for b in st)
            base = b''.join(B[t].astype(np.int8).tobytes() + bytes([int(sh[t])]) for t in range(T))
        else:
            blob, base = w8[m0:m0 + m].astype(np.int8).tobytes(), b''
            per = len(blob) // m
        assert per <= 2047
        d = a.data(blob)
        put('ldw', bank=0, addr=0, slice=0, slices=m, bytes=per, copies={1: 0, 2: 1, 4: 2}[fold], bcast=0, dram=d, wait=free, cost=dict(bytes=gran(d, len(blob))))
        read += len(blob)
        if base:
            d = a.data(base)
            put('ldw', bank=0, addr=per, slice=0, slices=64, bytes=len(base), copies=0, bcast=1, dram=d, cost=dict(bytes=gran(d, len(base))))
            read += len(base)
        if w.kind == 'sd' and w.G:
            xs_ = b''.join(bits_of(w.kept[i], 1) for i in range(m0 // w.G, cd(m0 + m, w.G)))
            d = a.data(xs_)
            put('ldx', bank=0, addr=0, bytes=len(xs_), dram=d, cost=dict(bytes=gran(d, len(xs_))))
            read += len(xs_)
        prm = b''.join(np.array([bias[f], mul[f]], '<i4').tobytes() for f in range(m0, m0 + m))
        d = a.data(prm)
        put('ldp', bank=0, addr=0, bytes=len(prm), dram=d, sig=['pe'], cost=dict(bytes=gran(d, len(prm))))
        read += len(prm)
        mine = [s for s in r['list'] if s[0] == m0]
        for k, (_, y, x0, e, f, t) in enumerate(mine):
            wait = (['ld'] if k == 0 else []) + (['st'] if k or m0 else [])
            sig = ['st'] + (['ld'] if k == len(mine) - 1 and m0 != tiles[-1] else [])
            again = int(k > 0 and r['blocks'] == 1)
            v = dict(view=0, geom=0, fmt=0, quant=0, wbank=0, waddr=0, baddr=per if base else 0, prm=0, m=m, oy=y, ox=x0, e=e, f=f, slot=0, reuse=again)
            if depthwise:
                put('dwcv', c0=m0, wait=wait, sig=sig, cost=dict(dur=t), **v)
            else:
                put('conv', xbank=0, xaddr=0, accin=0, keep=0, wait=wait, sig=sig, cost=dict(dur=t), **v)
            pe += t
            dst = yd + (m0 * E + y) * F + x0
            last = k == len(mine) - 1 and m0 == tiles[-1]
            runs = [gran(dst, e * F)] * 0
            by = sum(sum(gran(dst + i * E * F + j * F, f) for j in range(e)) if f != F else gran(dst + i * E * F, e * F) for i in range(m))
            put('std', slot=0, dram=dst, cstride=E * F, pitch=F, xstep=1, m=m, e=e, f=f, wait=['pe'], sig=[] if last else ['pe'], cost=dict(bytes=by))
    end, _, left = g.events(ev)
    assert left == 0 and pe == r['pe']
    put('halt', 'st', cost=dict(dur=1))
    words = a.words()
    mc = Machine(a.dram)
    mc.run(words)
    got = mc.dram[yd:yd + M * E * F].reshape(M, E, F)
    assert np.array_equal(got, want), name
    assert mc.dramio == [read, M * E * F]
    assert 0.02 < (got > 0).mean() and got.std() > 3, (name, got.mean())
    with open(f'{OUT}/{name}.sdas', 'w') as o:
        o.write(f'.isa 1.0\n.arch sda1-64x16x8\n.dram {len(a.dram)}\n.output "y" {yd} u8 {M}x{E}x{F}\n')
        for lo, hi in ((0, yd), (yd + M * E * F, len(a.dram))):
            for at_ in range(lo // 64 * 64, hi, 64):
                first, b = max(at_, lo), a.dram[max(at_, lo):min(at_ + 64, hi)]
                if any(b):
                    o.write(f'.data {first} {bytes(b).hex()}\n')
        for i in a.code:
            if i['op'] == 'cfg':
                file = [k for k, f in isa.REGS.items() if f[0] == i['v']['file']][0]
                vals = isa.unpack(isa.REGS[file][1], i['v']['value'])
                mag = [vals.pop(f'a{k}') for k in range(8)] if file == 'fmt' else None
                t = ' '.join(f'{k}={v}' for k, v in vals.items()) + (' a=' + ','.join(str(v) for v in mag[:vals['n']]) if mag and vals['sd'] else '')
                o.write(f"cfg.{i['eng']} {file}{i['v']['index']} {t}\n")
            else:
                o.write(isa.text(i['op'], i['eng'], i['wait'], i['sig'], **i['v']) + '\n')
    json.dump(dict(pe_busy=pe, total_cycles=end, dram_read=read, dram_written=M * E * F, program_bytes=16 * len(words), strips=len(r['list']),
                   output_sha256=hashlib.sha256(got.tobytes()).hexdigest(), words_sha256=hashlib.sha256(b''.join(w_.to_bytes(16, 'little') for w_ in words)).hexdigest()),
              open(f'{OUT}/{name}.json', 'w'), indent=1)
    return [name, len(words), pe, end, read, M * E * F]


def main():
    pub = dict(kind='sd', s=3, r=3)
    k3 = np.zeros((1, 48), bool)
    k3[0, [c * 3 + c % 3 for c in range(16)]] = True
    kc = np.zeros((1, 48), bool)
    kc[0, [c * 3 + y for c in range(16) for y in range(3) if (c + y) % 2 == 0]] = True
    P7 = (1, 2, 4, 8, 16, 32, 64)
    cases = [('A1', W(16, 16, 3, 3), 16, 8, dict(pad=1)), ('A2', W(16, 16, 3, 3, **pub), 16, 8, dict(pad=1)),
             ('A3', W(16, 16, 3, 3, kept=k3, G=32, **pub), 16, 8, dict(pad=1)), ('A4', W(16, 16, 3, 3, kept=kc, G=32, **pub), 16, 8, dict(pad=1)),
             ('A5', W(16, 16, 3, 3, kept=kc, G=32, **pub), 16, 8, dict(pad=1, wskip=0)), ('A6', W(16, 16, 3, 3, **pub), 16, 8, dict(pad=1, askip=1)),
             ('A7', W(16, 16, 3, 3, 'sd', 3, 8, 1, 13), 16, 8, dict(pad=1, alpha=(1,), row=1)),
             ('A8', W(16, 16, 3, 3, 'sd', 4, 6, 1, 14), 16, 8, dict(pad=1, alpha=(1, 2), row=1)),
             ('A9', W(16, 16, 3, 3, 'sd', 3, 3, 2, 10), 16, 8, dict(pad=1, alpha=(3, 6, 10, 16), row=1)),
             ('A10', W(64, 64, 1, 1, **pub), 64, 8, {}), ('A11', W(128, 64, 1, 1), 64, 7, {}),
             ('A12', W(32, 16, 3, 3, **pub), 16, 32, dict(stride=2, pad=1)), ('A13', W(50, 20, 5, 5), 20, 12, {}),
             ('A14', W(64, 256, 3, 3, **pub), 256, 14, dict(pad=1)), ('A15', W(128, 640, 1, 1), 640, 1, {}),
             ('A16', W(500, 800, 1, 1, 'sd', 8, 8, 1, 13), 800, 1, dict(alpha=(1,), row=1)),
             ('A17', W(64, 3, 3, 3), 3, 17, dict(stride=2)), ('A18', W(16, 16, 3, 3), 16, 12, dict(pad=2, dil=2)),
             ('A22', W(16, 16, 3, 3, **pub), 16, 8, dict(pad=1, fold=4)), ('A23', W(32, 16, 3, 3, **pub), 16, 32, dict(stride=2, pad=1, fold=2))]
    rng = np.random.default_rng(7)
    rows = []
    for name, w, C, H, kw in cases:
        for tag, x, b in (('bser0', np.full((C, H, H), 1), 0), ('x1', np.full((C, H, H), 1), 1), ('x85', np.full((C, H, H), 85), 1),
                          ('random', rng.integers(0, 256, (C, H, H)) * (rng.random((C, H, H)) < .6), 1)):
            if tag != 'random' and name in ('A14', 'A15', 'A16'):
                continue
            rows.append(build(f'{name}_{tag}', w, C, H, x, bser=b, **kw))
        z = rng.integers(0, 256, (C, H, H)) * (rng.random((C, H, 1)) < .5)
        if name in ('A2', 'A4', 'A12', 'A22'):
            rows.append(build(f'{name}_zerorows', w, C, H, z, bser=1, **{**kw, 'askip': 1}))
    for name, C, H, st in (('A19', 64, 8, 1), ('A20', 64, 16, 2), ('A21', 16, 8, 1)):
        for m in (1, 0):
            for tag, x, b in (('bser0', np.full((C, H, H), 1), 0), ('random', rng.integers(0, 256, (C, H, H)), 1)):
                rows.append(build(f'{name}_dwmap{m}_{tag}', W(C, 1, 3, 3), C, H, x, stride=st, pad=1, bser=b, depthwise=True, dwmap=m))
    print('P. micro/*.sdas: assembled programs with data, run through machine.py: every output byte equals ref.py.  EXACT: cycles of PE instructions, of the whole program (64 B/cycle, latency 100), DRAM bytes.')
    g.table(rows, ['program', 'instructions', 'PE cycles', 'total', 'DRAM read', 'written'])


if __name__ == '__main__':
    main()
