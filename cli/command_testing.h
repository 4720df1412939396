// SPDX-License-Identifier: Apache-2.0
// Runs programs for the tests of the command, and gives back what they said.
#pragma once
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

namespace evenflow::cli {

inline std::string contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// A folder for the files of one test, gone at its end.
class Folder {
 public:
  Folder() {
    std::string name = testing::TempDir() + "evenflow_cli_XXXXXX";
    path_ = mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

struct Said {
  int status = -1;  ///< exit status
  int signal = 0;   ///< that ended it, or 0
  std::string out, err;
};

/// A process whose standard streams go to files.
class Process {
 public:
  explicit Process(const std::vector<std::string>& words, const std::string& out_path = {}) {
    out_ = out_path.empty() ? folder_ / "out" : out_path;
    const std::string err_path = folder_ / "err";
    std::vector<char*> args;
    for (auto& w : words) args.push_back(const_cast<char*>(w.c_str()));
    args.push_back(nullptr);
    pid_ = fork();  // from here on the child may only make system calls
    if (pid_ == 0) {
      const int in = open("/dev/null", O_RDONLY);
      const int out = open(out_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
      const int err = open(err_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
      dup2(in, 0), dup2(out, 1), dup2(err, 2);
      execv(args[0], args.data());
      _exit(127);
    }
  }
  /// Waits until standard output holds this text; false when the process ends first.
  bool await(const std::string& text) {
    while (said().find(text) == std::string::npos) {
      siginfo_t info{};
      waitid(P_PID, id_t(pid_), &info, WEXITED | WNOHANG | WNOWAIT);
      if (info.si_pid == pid_) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return true;
  }
  void interrupt() { kill(pid_, SIGINT); }
  std::string said() const {
    return std::filesystem::is_regular_file(out_) ? contents(out_) : std::string();
  }
  Said wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    Said r;
    if (WIFEXITED(status)) r.status = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) r.signal = WTERMSIG(status);
    r.out = said(), r.err = contents(folder_ / "err");
    return r;
  }

 private:
  Folder folder_;
  std::string out_;
  pid_t pid_;
};

inline Said run(std::vector<std::string> words) { return Process(words).wait(); }
/// The command with these arguments.
inline Said evenflow(std::vector<std::string> words) {
  words.insert(words.begin(), EVENFLOW_COMMAND);
  return run(std::move(words));
}

/// The command refuses these arguments (status 2), or its work (status 1), with this text.
inline void expect_usage_error(const std::vector<std::string>& words, const std::string& text) {
  const Said s = evenflow(words);
  EXPECT_EQ(s.status, 2) << s.err;
  EXPECT_THAT(s.err, testing::HasSubstr(text));
  EXPECT_THAT(s.out, testing::IsEmpty());
}
inline void expect_refusal(const std::vector<std::string>& words, const std::string& text) {
  const Said s = evenflow(words);
  EXPECT_EQ(s.status, 1) << s.err;
  EXPECT_THAT(s.err, testing::AllOf(testing::StartsWith("evenflow: "), testing::HasSubstr(text),
                                    testing::EndsWith("\n")));
  EXPECT_THAT(s.out, testing::IsEmpty());
}

}  // namespace evenflow::cli
