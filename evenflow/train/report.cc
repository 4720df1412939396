// SPDX-License-Identifier: Apache-2.0
#include "evenflow/train/report.h"

#include "evenflow/core/error.h"
#include "evenflow/train/chart_scale.h"

namespace evenflow {
namespace {

constexpr std::string_view kStyle = R"(
:root{color-scheme:light dark;--paper:#f6f7f9;--card:#fff;--ink:#1b2330;--soft:#5b6675;--line:#d9dee6;--grid:#e9edf2;
--c0:#d9730d;--c1:#2463c7;--c2:#0f8a6d;--c3:#a4328f;--c4:#8a6d00;--c5:#3f51b5;--bad:#c62f3b}
@media(prefers-color-scheme:dark){:root{--paper:#10141b;--card:#181e28;--ink:#e7ebf1;--soft:#9ba7b6;--line:#2c3542;--grid:#242c38;
--c0:#f5a04c;--c1:#6ea8ff;--c2:#4fd1ab;--c3:#e684d4;--c4:#d9bd4a;--c5:#9aa8ff;--bad:#ff7a83}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{max-width:1080px;margin:0 auto;padding:36px 20px 60px}
h1{font-size:clamp(25px,4.4vw,36px);line-height:1.2;margin:0 0 10px;letter-spacing:-.015em}
h2{font-size:21px;line-height:1.3;margin:46px 0 6px;letter-spacing:-.01em}
h3{font-size:15px;margin:0 0 6px;font-weight:600}
p{margin:0 0 14px;max-width:74ch}
.lead{font-size:18px;color:var(--soft)}
.facts,.row{display:grid;gap:16px;margin:18px 0}
.facts{grid-template-columns:repeat(auto-fit,minmax(min(100%,155px),1fr))}
.row{grid-template-columns:repeat(auto-fit,minmax(min(100%,330px),1fr))}
.fact,.chart,.images,.table,pre{background:var(--card);border:1px solid var(--line);border-radius:12px}
.fact{padding:14px 16px}.fact b{display:block;font-size:29px;line-height:1.2;font-variant-numeric:tabular-nums;letter-spacing:-.02em}
.fact span{display:block;margin-top:3px;font-size:13.5px;line-height:1.4;color:var(--soft)}
.chart{padding:14px 14px 8px;min-width:0}.chart svg{display:block;width:100%;height:auto;overflow:visible}
.keys{display:flex;flex-wrap:wrap;gap:2px 16px;margin:0 0 8px;font-size:13px;color:var(--soft)}
.key{display:inline-flex;align-items:center;gap:6px}.key i{flex:none;width:18px;height:0;border-top:2.5px solid var(--c)}
.key i.dashed{border-top-style:dashed}.key i.area{height:11px;border:0;border-radius:3px;background:var(--c);opacity:.55}
.key i.point{width:9px;height:9px;border:0;border-radius:50%;background:var(--c)}
.c0{--c:var(--c0)}.c1{--c:var(--c1)}.c2{--c:var(--c2)}.c3{--c:var(--c3)}.c4{--c:var(--c4)}.c5{--c:var(--c5)}
svg text{font-family:inherit;fill:var(--soft)}
.tick{font-size:10.5px;font-variant-numeric:tabular-nums}.label{font-size:11.5px}.mid{text-anchor:middle}.end{text-anchor:end}
.grid{stroke:var(--grid);stroke-width:1}.axis{stroke:var(--line);stroke-width:1.2;fill:none}
.line{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.line.thin{stroke-width:1;opacity:.6}.line.dashed{stroke-dasharray:5 4;stroke-width:1.6}
.area{fill:var(--c);opacity:.2}.dot{fill:var(--c)}.point{fill:var(--c);opacity:.72}
.diagonal{stroke:var(--soft);stroke-width:1.2;stroke-dasharray:4 4}
.cell{font-size:11.5px;font-weight:600;font-variant-numeric:tabular-nums}
svg .dark{fill:#10231d}svg .light{fill:#fff}svg .gone{fill:var(--bad)}.none{fill:var(--grid)}
.scale{display:flex;flex-wrap:wrap;align-items:center;gap:6px 10px;font-size:13px;color:var(--soft);max-width:none}
.scale i{width:150px;height:11px;border-radius:6px}.scale b{color:var(--bad)}
.images{display:grid;grid-template-columns:repeat(auto-fill,minmax(88px,1fr));gap:14px 12px;padding:16px;margin:14px 0}
.image svg{display:block;width:100%;height:auto;fill:var(--ink);background:var(--paper);border:1px solid var(--line);border-radius:6px}
.image b{display:block;margin-top:5px;font-size:14px;line-height:1.3}.image small{display:block;font-size:12px;line-height:1.35;color:var(--soft)}
.image.wrong svg{border:2px solid var(--bad)}.image.wrong b{color:var(--bad)}
.table{overflow-x:auto;margin:16px 0}table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}
th,td{padding:8px 14px;text-align:right;white-space:nowrap;border-top:1px solid var(--grid)}
thead th{border:0;color:var(--soft);font-weight:600;font-size:13px}th:first-child,td:first-child{text-align:left}
.verdicts th,.verdicts td{white-space:normal;text-align:left;vertical-align:top}
.verdicts td.yes{color:var(--c2);font-weight:700}.verdicts td.no{color:var(--bad);font-weight:700}
pre{margin:14px 0;padding:12px 16px;overflow-x:auto;font:13px/1.6 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
.sortable th,.sortable td{padding:6px 8px;font-size:13px}.sortable button{all:unset;cursor:pointer}.sortable button:focus-visible{outline:2px solid var(--c1);outline-offset:2px}
[aria-sort=descending] button::after{content:" ▾"}[aria-sort=ascending] button::after{content:" ▴"}
@media print{body{background:#fff}.chart,.fact,.images,.table{break-inside:avoid}}
)";

// Numbers first from the largest down, texts from A; the same heading again turns the order.
constexpr std::string_view kSort = R"(<script>
for (const table of document.querySelectorAll('.sortable')) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => head.firstChild.onclick = () => {
    const cell = row => row.cells[column].textContent;
    const numbers = [...body.rows].some(row => !isNaN(parseFloat(cell(row))));
    const value = row => { const v = parseFloat(cell(row)); return isNaN(v) ? -Infinity : v; };
    const down = head.ariaSort ? head.ariaSort === 'ascending' : numbers;
    const order = numbers ? (a, b) => (value(b) > value(a)) - (value(b) < value(a))
                          : (a, b) => cell(b).localeCompare(cell(a));
    const rows = [...body.rows].sort((a, b) => down ? order(a, b) : order(b, a));
    heads.forEach(h => h.removeAttribute('aria-sort'));
    head.ariaSort = down ? 'descending' : 'ascending';
    body.append(...rows);
  });
}
</script>
)";

}  // namespace

std::string html_text(std::string_view text) {
  std::string s;
  for (char c : text) {
    if (c == '<')
      s += "&lt;";
    else if (c == '>')
      s += "&gt;";
    else if (c == '&')
      s += "&amp;";
    else if (c == '"')
      s += "&quot;";
    else if (uint8_t(c) >= 32 || c == '\n')
      s += c;
  }
  return s;
}

Report::Report(std::string title, std::string lead)
    : title_(std::move(title)),
      body_(concat(
          {"<h1>", html_text(title_), "</h1>\n<p class=\"lead\">", html_text(lead), "</p>\n"})) {}

void Report::facts(const std::vector<Fact>& facts) {
  body_ += "<div class=\"facts\">\n";
  for (auto& f : facts)
    body_ += concat({"<div class=\"fact\"><b",
                     f.color < 0 ? "" : concat({" style=\"color:var(--c", f.color, ")\""}), ">",
                     html_text(f.value), "</b><span>", html_text(f.what), "</span></div>\n"});
  body_ += "</div>\n";
}

void Report::section(std::string_view title, std::string_view text) {
  body_ += concat({"<h2>", html_text(title), "</h2>\n"});
  paragraph(text);
}

void Report::paragraph(std::string_view text) {
  body_ += concat({"<p>", html_text(text), "</p>\n"});
}

void Report::table(const std::vector<std::vector<std::string>>& rows, bool sortable) {
  body_ += concat({"<div class=\"table\"><table", sortable ? " class=\"sortable\"" : "", ">"});
  sorts_ = sorts_ || sortable;
  for (size_t r = 0; r < rows.size(); ++r) {
    body_ += r ? "<tr>" : "<thead><tr>";
    for (size_t c = 0; c < rows[r].size(); ++c) {
      const std::string tag = r && c ? "td" : "th";
      std::string text = html_text(rows[r][c]);
      if (sortable && !r) text = "<button type=\"button\">" + text + "</button>";
      body_ += concat({"<", tag, r && !c ? " scope=\"row\"" : "", ">", text, "</", tag, ">"});
    }
    body_ += r ? "</tr>\n" : "</tr></thead>\n";
  }
  body_ += "</table></div>\n";
}

void Report::verdicts(const std::vector<std::vector<std::string>>& rows) {
  body_ += "<div class=\"table verdicts\"><table>";
  for (size_t r = 0; r < rows.size(); ++r) {
    body_ += r ? "<tr>" : "<thead><tr>";
    for (size_t c = 0; c < rows[r].size(); ++c) {
      const bool verdict = r && c == 1;
      const std::string tag = r ? "td" : "th";
      body_ += concat({"<", tag, verdict ? concat({" class=\"", html_text(rows[r][c]), "\""}) : "",
                       ">", html_text(rows[r][c]), "</", tag, ">"});
    }
    body_ += r ? "</tr>\n" : "</tr></thead>\n";
  }
  body_ += "</table></div>\n";
}

void Report::code(std::string_view text) {
  body_ += concat({"<pre>", html_text(text), "</pre>\n"});
}

void Report::heat_scale(std::string_view name) {
  std::string stops;
  for (int i = 0; i <= 6; ++i) {
    const auto [r, g, b] = heat_color(i / 6.);
    stops += concat({i ? "," : "", "rgb(", r, ",", g, ",", b, ")"});
  }
  body_ += concat({"<p class=\"scale\"><span>", html_text(name),
                   ":</span><span>0 %</span><i style=\"background:linear-gradient(90deg,", stops,
                   ")\"></i><span>100 %</span><span><b>×</b> diverged</span></p>\n"});
}

std::string Report::html() const {
  return concat(
      {"<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
       "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>",
       html_text(title_), "</title>\n<style>", kStyle, "</style></head>\n<body><main>\n", body_,
       "</main>\n", sorts_ ? kSort : "", "</body></html>\n"});
}

}  // namespace evenflow
