// SPDX-License-Identifier: Apache-2.0
// A report of trainings: one self-contained HTML page with charts, readable on paper, on a
// telephone, in light and in dark.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "evenflow/train/chart.h"

namespace evenflow {

/// Text for HTML: what has a meaning there is escaped.
std::string html_text(std::string_view text);

class Report {
 public:
  Report(std::string title, std::string lead);

  /// A number that matters, large, with what it is.
  struct Fact {
    std::string value, what;
    int color = -1;  ///< of a Series, or none
  };
  void facts(const std::vector<Fact>& facts);
  /// A heading, and one or two sentences that say what one sees.
  void section(std::string_view title, std::string_view text);
  void paragraph(std::string_view text);
  /// Charts of one kind stand side by side where there is room.
  template <class Chart>
  void charts(const std::vector<Chart>& charts) {
    body_ += "<div class=\"row\">\n";
    for (auto& c : charts) body_ += chart_html(c);
    body_ += "</div>\n";
  }
  /// Charts of any kinds, side by side.
  template <class... Chart>
  void row(const Chart&... charts) {
    body_ += "<div class=\"row\">\n" + (chart_html(charts) + ...) + "</div>\n";
  }
  void images(const std::vector<Image>& images) { body_ += images_html(images); }
  /// The first row is the heading, the first column names the rows. A sortable table is put in the
  /// order of a column, by number where its cells begin with one, when its heading is pressed.
  void table(const std::vector<std::vector<std::string>>& rows, bool sortable = false);
  /// The first row is the heading; a second column of "yes" or "no" is coloured, and texts wrap.
  void verdicts(const std::vector<std::vector<std::string>>& rows);
  void code(std::string_view text);
  /// A scale from 0 to 1 in the colours of heat maps, with its name.
  void heat_scale(std::string_view name);

  std::string html() const;

 private:
  std::string title_, body_;
  bool sorts_ = false;
};

}  // namespace evenflow
