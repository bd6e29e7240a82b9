"""How the page looks: one column on a phone, two on a desk, dark where the reader's system is."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """
:root{color-scheme:light dark;--ink:#1c2230;--dim:#5b6475;--paper:#f6f7f9;--card:#fff;
--line:#dfe3ea;--accent:#2a6fdb;--warn:#8a5a00;--warnbg:#fff4dc}
@media(prefers-color-scheme:dark){:root{--ink:#e7eaf1;--dim:#9aa4b6;--paper:#11141a;
--card:#1a1f28;--line:#2c3340;--accent:#7db0ff;--warn:#ffd479;--warnbg:#33290f}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:76rem;margin:0 auto;padding:1rem clamp(.75rem,3vw,2rem) 3rem}
h1{font-size:clamp(1.25rem,4vw,1.75rem);margin:.5rem 0 .1rem;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:0 0 .75rem}h3{font-size:.95rem;margin:1rem 0 .4rem}
p{margin:.4rem 0}.dim{color:var(--dim)}small{color:var(--dim)}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;
padding:1rem;margin-top:1rem;min-width:0}
.grid{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,21rem),1fr))}
.grid img{width:100%}.grid>section{margin-top:0}.grid{margin-top:1rem}
.facts{display:grid;gap:.75rem;grid-template-columns:repeat(auto-fit,minmax(8rem,1fr));margin-top:1rem}
.fact{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:.7rem .9rem}
.fact b{display:block;font-size:1.2rem;line-height:1.25;font-variant-numeric:tabular-nums}
.fact span{color:var(--dim);font-size:.85rem}
.warn{background:var(--warnbg);color:var(--warn);border-color:currentColor}
.warn ul{margin:0;padding-left:1.2rem}
img{display:block;max-width:100%;height:auto;border-radius:6px}
td img{max-width:none;width:clamp(4rem,18vw,10rem)}
.zoom{display:block;position:relative;cursor:zoom-in}
.zoom input{position:absolute;opacity:0;pointer-events:none}
.zoom input:focus-visible+img{outline:3px solid var(--accent)}
.grid .zoom input:checked+img{position:fixed;inset:0;z-index:9;width:100vw;height:100vh;
object-fit:contain;background:#000e;border-radius:0;cursor:zoom-out}
figure{margin:0}figcaption{color:var(--dim);font-size:.85rem;margin-top:.4rem}
.scroll{overflow-x:auto}.gallery img{max-width:none}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.3rem .5rem;border-bottom:1px solid var(--line);
vertical-align:top}
th{color:var(--dim);font-weight:600;font-size:.85rem}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td:first-child{white-space:nowrap}
.key{display:inline-block;width:.8em;height:.8em;border-radius:3px;margin-right:.5em;
border:1px solid var(--line)}
.track{background:var(--line);border-radius:4px;height:.55rem;min-width:5rem}
.track i{display:block;height:100%;border-radius:4px;background:var(--accent)}
.ramp{height:.9rem;border-radius:4px;margin-top:.6rem}
.ends{display:flex;justify-content:space-between;font-size:.85rem;color:var(--dim)}
.charts{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr))}
.charts svg{width:100%;height:auto;display:block}
code{font:.85em ui-monospace,monospace;overflow-wrap:anywhere}
details summary{cursor:pointer;font-weight:600}
a{color:var(--accent)}
@media print{section,.fact{break-inside:avoid}}
"""
