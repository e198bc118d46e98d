// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace mpo::cli {

// The report's style sheet; light and dark.
inline constexpr char kReportStyle[] = R"css(
:root{--bg:#fbfaf8;--card:#fff;--ink:#1d2430;--soft:#667085;--rule:#e4e2dd;
--proxy:#d9730d;--gold:#0f8a7e;--held:#3563c9;--heldproxy:#b08968;--violet:#7a5af8;
--rose:#c9356f;--slate:#8893a7;--good:#11734b;--goodbg:#e3f5ec;--bad:#b42318;--badbg:#fdeceb;
--warn:#93590a;--warnbg:#fdf3dc;--code:#f3f1ec}
@media(prefers-color-scheme:dark){:root{--bg:#14171c;--card:#1c2128;--ink:#e7eaf0;--soft:#98a2b3;
--rule:#313843;--proxy:#f59e4b;--gold:#3cc9b8;--held:#7ca3ff;--heldproxy:#d0ab87;--violet:#a48afb;--rose:#f26fa4;
--slate:#7d8899;--good:#6fdcaa;--goodbg:#153527;--bad:#ff9b8f;--badbg:#3f1d1a;--warn:#f7c56b;
--warnbg:#3a2d12;--code:#232932}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
main{max-width:1120px;margin:0 auto;padding:36px 24px 72px}
header{margin-bottom:22px}h1{font-size:27px;margin:0 0 2px;letter-spacing:-.015em}
h2{font-size:18px;margin:40px 0 12px;letter-spacing:-.01em}h3{font-size:14px;margin:0 0 6px}
p{margin:4px 0 10px}.soft{color:var(--soft);font-size:13px}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(225px,1fr));gap:12px}
.card,.panel{background:var(--card);border:1px solid var(--rule);border-radius:12px}
.card{padding:13px 16px}.card b{display:block;font-size:22px;line-height:1.25;letter-spacing:-.02em;font-variant-numeric:tabular-nums}
.card span{color:var(--soft);font-size:12.5px}.card b{white-space:nowrap}.card em{font-style:normal;font-size:13px;font-weight:600;letter-spacing:0}
.up{color:var(--good)}.down{color:var(--bad)}
.panel{padding:16px 18px}.grid{display:grid;grid-template-columns:1fr 1fr;gap:14px}
@media(max-width:760px){.grid{grid-template-columns:1fr}}
.chart{width:100%;height:auto;display:block;overflow:visible}
.chart .rule{stroke:var(--rule);stroke-width:1}
.chart text{fill:var(--soft);font-size:11.5px;font-family:inherit}
.chart .line{fill:none;stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round}
.chart .hit{opacity:0}.chart .hit:hover{opacity:1}.chart .dot{stroke:var(--card);stroke-width:1.5}
.chart line.marker{stroke:var(--violet);stroke-dasharray:3 4;opacity:.75}
.chart text.marker{fill:var(--violet);font-weight:600}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:13px;margin:2px 0 8px}
.legend i{display:inline-block;width:18px;height:3px;border-radius:2px;background:var(--c);margin-right:7px;vertical-align:middle}
.legend i.dot{width:9px;height:9px;border-radius:50%}
.legend i.dash{background:repeating-linear-gradient(90deg,var(--c) 0 5px,transparent 5px 9px)}
.timeline{border-left:2px solid var(--rule);margin-left:8px;padding-left:22px}
.entry{position:relative;margin-bottom:16px}
.entry:before{content:"";position:absolute;left:-30px;top:19px;width:12px;height:12px;border-radius:50%;background:var(--violet);border:3px solid var(--bg)}
.entry.rejected:before{background:var(--bad)}.entry.unchanged:before{background:var(--slate)}
.badge{display:inline-block;font-size:12px;font-weight:600;border-radius:999px;padding:1px 9px;margin-left:6px;vertical-align:1px;background:var(--code);color:var(--soft)}
.badge.good{background:var(--goodbg);color:var(--good)}.badge.bad{background:var(--badbg);color:var(--bad)}.badge.warn{background:var(--warnbg);color:var(--warn)}
ul{margin:6px 0 10px;padding-left:20px}li{margin:3px 0}
table{border-collapse:collapse;width:100%;font-size:13.5px}td,th{text-align:left;padding:6px 10px;border-bottom:1px solid var(--rule);vertical-align:top}
th{color:var(--soft);font-weight:600;font-size:12.5px}tr:last-child td{border-bottom:0}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
tr.add td:first-child{box-shadow:inset 3px 0 var(--good)}tr.drop td:first-child{box-shadow:inset 3px 0 var(--bad)}tr.edit td:first-child{box-shadow:inset 3px 0 var(--warn)}
ins{background:var(--goodbg);color:var(--good);text-decoration:none;border-radius:3px;padding:0 2px}del{background:var(--badbg);color:var(--bad);border-radius:3px;padding:0 2px}
details{margin-top:8px}summary{cursor:pointer;color:var(--soft);font-size:13px}
pre{background:var(--code);border-radius:10px;padding:14px 16px;overflow:auto;font-size:12.5px;line-height:1.5}code{background:var(--code);border-radius:4px;padding:1px 5px;font-size:12.5px}
.pair{margin-bottom:14px}.pair>.soft{margin-bottom:8px}.pair .grid>div{border:1px solid var(--rule);border-radius:10px;padding:11px 14px}
.response{white-space:pre-wrap;overflow-wrap:anywhere;margin:6px 0 8px}
.chips{display:flex;flex-wrap:wrap;gap:5px}.chips span{font-size:12px;background:var(--code);border-radius:6px;padding:1px 7px}
.bar{display:inline-block;height:9px;border-radius:3px;vertical-align:middle;margin-right:8px}
)css";

}  // namespace mpo::cli
