"""The measured points as one SVG: a panel per network, error against bytes."""

COLOURS = {
    "float": "#444444",
    "int8": "#888888",
    "int4": "#c77d00",
    "released": "#b3261e",
    "ours, no data": "#1b6ec2",
    "ours, calibrated": "#1a7f37",
}
WIDTH, HEIGHT, COLUMNS, MARGIN = 300, 210, 3, 44


def page(rows):
    """SVG text. Upwards is better: accuracy where there are labels, else agreement with the float network; to the right is smaller."""
    names = list(dict.fromkeys(r["network"] for r in rows))
    lines = -(-len(names) // COLUMNS)
    width, height = COLUMNS * WIDTH, lines * HEIGHT + 40
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for i, (method, colour) in enumerate(COLOURS.items()):
        out.append(f'<circle cx="{20 + i * 130}" cy="18" r="4" fill="{colour}"/><text x="{28 + i * 130}" y="22">{method}</text>')
    for i, name in enumerate(names):
        own = [r for r in rows if r["network"] == name]
        out += panel(name, own, i % COLUMNS * WIDTH, 36 + i // COLUMNS * HEIGHT)
    return "\n".join(out + ["</svg>"]) + "\n"


def panel(name, rows, left, top):
    key = "accuracy" if rows[0]["accuracy"] is not None else "agreement"
    values = [r[key] for r in rows]
    low, high = min(values), max(values)
    low, high = low - 0.05 * (high - low + 1), high + 0.05 * (high - low + 1)
    most = max(r["ratio"] for r in rows) * 1.1
    x = lambda ratio: left + MARGIN + (WIDTH - MARGIN - 12) * ratio / most
    y = lambda value: top + 20 + (HEIGHT - 60) * (high - value) / (high - low)
    label = "accuracy %" if key == "accuracy" else "same class as float %"
    out = [
        f'<text x="{left + MARGIN}" y="{top + 12}" font-weight="bold">{name}: {label}</text>',
        f'<path d="M{x(0):.1f} {y(high):.1f}V{y(low):.1f}H{x(most):.1f}" fill="none" stroke="#999"/>',
    ]
    for value in (low + 0.1 * (high - low), high - 0.1 * (high - low)):
        out.append(f'<text x="{x(0) - 4:.1f}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.1f}</text>')
    for ratio in range(2, int(most) + 1, 2):
        out.append(f'<text x="{x(ratio):.1f}" y="{y(low) + 14:.1f}" text-anchor="middle">{ratio}x</text>')
    for r in rows:
        out.append(f'<circle cx="{x(r["ratio"]):.1f}" cy="{y(r[key]):.1f}" r="4" fill="{COLOURS[r["method"]]}"/>')
    return out
