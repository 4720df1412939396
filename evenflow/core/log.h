// SPDX-License-Identifier: Apache-2.0
// EVENFLOW_LOG=dispatch,pass,exec,memory,trace,data: the one dial. The library itself prints
// nothing else, but for a word there that is no topic.
#pragma once
#include <functional>
#include <string>
#include <string_view>

namespace evenflow {

enum class Topic { dispatch, pass, exec, memory, trace, data };
/// Whether the topic is asked for; cheap enough for hot paths.
bool logs(Topic topic);
/// One line to the sink (standard error unless set).
void log(Topic topic, std::string_view line);
/// Replaces the topics (a comma-separated list; "all") and the sink; for programs and tests.
void set_log(std::string_view topics, std::function<void(std::string_view line)> sink = {});

}  // namespace evenflow
