// SPDX-License-Identifier: Apache-2.0
#include "tests/op_checks.h"

#include <unistd.h>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <map>
#include <random>

#include "evenflow/core/checksum.h"
#include "evenflow/core/parallel.h"
#include "evenflow/graph/compile.h"
#include "evenflow/graph/gradient.h"
#include "evenflow/graph/sub_graph.h"
#include "evenflow/graph/transaction.h"

namespace evenflow::checks {
namespace {

constexpr int64_t kSmall = int64_t(1)
                           << 22;  // bytes up to which a mutated call is run and not only shaped

std::mt19937_64 generator(std::string_view name) {
  return std::mt19937_64(std::hash<std::string_view>{}(name));
}

std::vector<double> draw(const CaseInput& in, const Sig& sig, std::mt19937_64& g) {
  const size_t n = size_t(sig.shape.count());
  std::vector<double> v(n);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  for (size_t i = 0; i < n; ++i) {
    switch (in.fill) {
      case CaseInput::Fill::normal:
        v[i] = in.a + in.b * normal(g) * (is_floating(sig.dtype) ? 1 : 3);
        break;
      case CaseInput::Fill::uniform:
        v[i] = in.a + (in.b - in.a) * uniform(g);
        break;
      case CaseInput::Fill::integers:
        v[i] = std::floor(in.a + (in.b - in.a) * uniform(g));
        break;
      case CaseInput::Fill::values:
        v[i] = in.values.empty() ? 0 : in.values[i % in.values.size()];
        break;
    }
    if (is_integer(sig.dtype)) v[i] = std::isfinite(v[i]) ? std::nearbyint(v[i]) : 0;
    if (sig.dtype == DType::u8) v[i] = std::clamp(std::fabs(v[i]), 0., 255.);
    if (sig.dtype == DType::boolean)
      v[i] = in.fill == CaseInput::Fill::normal    ? v[i] > in.a
             : in.fill == CaseInput::Fill::uniform ? v[i] > (in.a + in.b) / 2
                                                   : v[i] != 0;
  }
  return v;
}

// What the element type holds of them.
std::vector<double> rounded(const std::vector<double>& v, const Sig& sig) {
  return constant(v, sig.shape, sig.dtype).to_vector<double>();
}

void fill_in(Point& p) {
  auto g = generator(p.op->name + p.c->name);
  p.values.clear();
  for (size_t i = 0; i < p.sigs.size(); ++i)
    p.values.push_back(rounded(draw(p.c->in[i], p.sigs[i], g), p.sigs[i]));
}

// Some types follow from others only in the shape rule (statistics of f64 are f64): what its
// refusal expects is tried, then the next. False: these types are refused for good.
bool settle(const OpDef& op, const AttrPtr& attrs, Sigs& sigs,
            const std::vector<CaseInput>& fixed) {
  if (!op.shape) return false;
  std::vector<char> changed(sigs.size());
  for (size_t attempt = 0; attempt <= sigs.size(); ++attempt) {
    try {
      op.shape(sigs, attrs.get());
      return true;
    } catch (const Error& e) {
      const std::string_view text = e.what();
      const size_t is = text.find(" is "), expected = text.find(", expected ");
      if (is == text.npos || expected == text.npos) return false;
      const std::string_view who = text.substr(0, is),
                             what = text.substr(is + 4, expected - is - 4),
                             type = text.substr(expected + 11);
      std::optional<DType> to;
      for (int d = 0; d < kDTypes; ++d)
        if (type.substr(0, type.find('[')) == str(DType(d))) to = DType(d);
      if (!to) return false;
      size_t best = sigs.size();
      for (int pass = 0; pass < 2 && best == sigs.size(); ++pass)
        for (size_t i = sigs.size(); i--;) {
          const std::string_view name = arg_of(op, i).name;
          if (!changed[i] && str(sigs[i]) == what && arg_of(op, i).types.has(*to) &&
              !fixed[i].dtype && (pass ? name.find(who) != name.npos : name == who))
            best = i;
        }
      if (best == sigs.size()) return false;
      sigs[best].dtype = *to, changed[best] = 1;
    }
  }
  return false;
}

Point point(const OpDef& op, const OpDef::Case& c, const std::map<char, DType>& letters,
            bool drawn = true) {
  Point p{&op, &c, {}, {}, {}};
  std::string types;
  for (size_t i = 0; i < c.in.size(); ++i) {
    const Types t = op.inputs.empty() ? any_type : arg_of(op, i).types;
    DType d = DType(std::countr_zero(t.mask ? t.mask : 1));
    if (auto it = letters.find(t.letter); t.letter && it != letters.end()) d = it->second;
    if (c.in[i].dtype) d = *c.in[i].dtype;
    p.sigs.push_back({d, c.in[i].shape});
  }
  if (c.flags.fails.empty()) p.fits = settle(op, c.attrs, p.sigs, c.in);
  for (auto& sig : p.sigs) types += (types.empty() ? "" : ",") + std::string(str(sig.dtype));
  p.name = op.name + "/" + c.name + "/" + types;
  if (drawn) fill_in(p);
  return p;
}

// The letters of a case and the element types open to each. A fixed input fixes its letter.
std::map<char, std::vector<DType>> letters_of(const OpDef& op, const OpDef::Case& c) {
  std::map<char, std::vector<DType>> r;
  if (op.inputs.empty()) return r;
  for (size_t i = 0; i < c.in.size(); ++i) {
    const Types t = arg_of(op, i).types;
    if (!t.letter) continue;
    auto& types = r[t.letter];
    if (c.in[i].dtype)
      types = {*c.in[i].dtype};
    else if (types.empty())
      for (int d = 0; d < kDTypes; ++d)
        if (t.has(DType(d))) types.push_back(DType(d));
  }
  for (size_t i = 0; i < c.in.size(); ++i)
    if (c.in[i].dtype && arg_of(op, i).types.letter)
      r[arg_of(op, i).types.letter] = {*c.in[i].dtype};
  return r;
}

double tolerance(DType d) {
  switch (d) {
    case DType::f64:
      return 1e-11;
    case DType::f32:
      return 1e-5;
    case DType::bf16:
      return 1e-2;
    case DType::f16:
      return 2e-3;
    default:
      return 0;
  }
}
double coarsest(const Sigs& a, const Sigs& b) {
  double t = 0;
  for (auto* list : {&a, &b})
    for (auto& s : *list) t = std::max(t, tolerance(s.dtype));
  return t;
}

// ---- memory with guards
// --------------------------------------------------------------------------------------------------------
// Under the address sanitizer the allocation ends where the value ends; else a pattern on both
// sides is looked at afterwards. Two runs have two patterns, so that what is read there shows.
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kGuard = 0;
#else
constexpr size_t kGuard = 1024;
#endif
struct Memory {
  size_t bytes;
  char* base = nullptr;
  char pattern;
  explicit Memory(int64_t n, int fill) : bytes(size_t(n)), pattern(char(fill)) {
    void* p = nullptr;
    if (posix_memalign(&p, 64, bytes + 2 * kGuard + (kGuard ? 0 : !bytes)))
      fail(Code::ResourceExhausted, {"no memory for a check"});
    base = static_cast<char*>(p);
    std::memset(base, pattern, bytes + 2 * kGuard);
  }
  Memory(Memory&& o) noexcept
      : bytes(o.bytes), base(std::exchange(o.base, nullptr)), pattern(o.pattern) {}
  ~Memory() { free(base); }
  char* data() const { return base + kGuard; }
  bool intact() const {
    for (size_t i = 0; i < kGuard; ++i)
      if (base[i] != pattern || base[kGuard + bytes + i] != pattern) return false;
    return true;
  }
};

std::vector<double> numbers(const Sig& sig, const void* data) {
  std::vector<double> r(size_t(sig.shape.count()));
  visit(sig.dtype, [&](auto zero) {
    using T = decltype(zero);
    for (size_t i = 0; i < r.size(); ++i) {
      T v;
      std::memcpy(static_cast<void*>(&v), static_cast<const char*>(data) + i * sizeof(T),
                  sizeof(T));
      r[i] = double(compute_t<T>(v));
    }
  });
  return r;
}
std::vector<Memory> inputs_of(const Point& p, int around = 0) {
  std::vector<Memory> r;
  Tensors t = p.tensors();
  for (size_t i = 0; i < t.size(); ++i) {
    r.emplace_back(p.sigs[i].bytes(), around);
    if (r.back().bytes) std::memcpy(r.back().data(), t[i].data(), r.back().bytes);
  }
  return r;
}

struct Ran {
  std::vector<Memory> out;
  Complaints complaints;
};
Ran run(const Point& p, const std::vector<Memory>& in, const Prepared& k, const Sigs& out,
        int garbage) {
  Ran r;
  std::vector<uint32_t> sums;
  for (auto& m : in) sums.push_back(crc32c(m.data(), m.bytes));
  for (auto& s : out) r.out.emplace_back(s.bytes(), garbage);
  Memory scratch(k.scratch_bytes, garbage);
  std::vector<View> vi, vo;
  for (size_t i = 0; i < in.size(); ++i)
    vi.push_back({&p.sigs[i], shape_only(*p.op, i) ? nullptr : in[i].data()});
  for (size_t i = 0; i < out.size(); ++i) vo.push_back({&out[i], r.out[i].data()});
  k.run({vi, vo, k.scratch_bytes ? scratch.data() : nullptr});
  for (size_t i = 0; i < in.size(); ++i)
    if (!in[i].intact() || crc32c(in[i].data(), in[i].bytes) != sums[i])
      r.complaints.push_back(concat({"input ", i, " was written"}));
  for (size_t i = 0; i < out.size(); ++i) {
    if (!r.out[i].intact())
      r.complaints.push_back(concat({"memory around output ", i, " was written"}));
    if (out[i].dtype == DType::boolean)
      for (size_t j = 0; j < r.out[i].bytes; ++j)
        if (uint8_t(r.out[i].data()[j]) > 1) {
          r.complaints.push_back(concat({"element ", j, " of output ", i, " is no bool"}));
          break;
        }
  }
  if (!scratch.intact())
    r.complaints.push_back(
        concat({"memory around the scratch of ", k.scratch_bytes, " bytes was written"}));
  return r;
}
Prepared of_loop(const OpDef& op, const AttrPtr& attrs) {
  return {[&op, attrs](const Call& c) { op.loop(c, attrs.get()); }, 0};
}

double rms(const std::vector<double>& v) {
  double s = 0, n = 0;
  for (double x : v)
    if (std::isfinite(x)) s += x * x, ++n;
  return n ? std::sqrt(s / n) : 0;
}
double largest_input(const Point& p) {
  double m = 0;
  for (size_t i = 0; i < p.sigs.size(); ++i)
    if (is_floating(p.sigs[i].dtype))
      for (double x : p.values[i])
        if (std::isfinite(x)) m = std::max(m, std::fabs(x));
  return m;
}

void compare(Complaints& complaints, const std::string& who, size_t output, const Sig& sig,
             const std::vector<double>& got, const std::vector<double>& expected, double tol,
             double input) {
  if (got.size() != expected.size()) {
    complaints.push_back(concat(
        {who, ": output ", output, " has ", got.size(), " elements, expected ", expected.size()}));
    return;
  }
  const double scale = std::max(rms(expected), std::min(1., input)),
               top = sig.dtype == DType::f16   ? 65504
                     : sig.dtype == DType::f64 ? 1e308
                                               : 3.3e38;
  size_t worst = 0;
  double by = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double g = got[i], e = expected[i];
    double error;
    if (!is_floating(sig.dtype))
      error = g == e ? 0 : INFINITY;
    else if (std::isnan(e) || std::isnan(g))
      error = std::isnan(e) && std::isnan(g) ? 0 : INFINITY;
    else if (std::isinf(g) && std::fabs(e) >= top * 0.999 && std::signbit(g) == std::signbit(e))
      error = 0;
    else
      error = g == e ? 0 : std::fabs(g - e) / std::max(std::fabs(e), scale);
    if (error > by) by = error, worst = i;
  }
  if (by > tol)
    complaints.push_back(
        concat({who, ": output ", output, " ", str(sig), " element ", worst, " is ", got[worst],
                ", expected ", expected[worst], " (off by ", by, ", tolerance ", tol, ")"}));
}

// The operation in f64 on the same values, where it is the same function there.
std::vector<std::vector<double>> oracle(const Point& p) {
  Point wide = p;
  if (!p.op->traits.random)
    for (size_t i = 0; i < p.sigs.size(); ++i) {
      const Types t = arg_of(*p.op, i).types;
      if (is_floating(p.sigs[i].dtype) && t.letter && t.has(DType::f64) && !p.c->in[i].dtype)
        wide.sigs[i].dtype = DType::f64;
    }
  if (!settle(*p.op, p.c->attrs, wide.sigs, p.c->in)) wide.sigs = p.sigs;
  std::vector<std::vector<double>> r;
  if (p.op->reference) {
    for (auto& t : p.op->reference(wide.tensors(), p.c->attrs.get()))
      r.push_back(t.to_vector<double>());
    return r;
  }
  const Sigs out = p.op->shape(wide.sigs, p.c->attrs.get());
  Ran ran = run(wide, inputs_of(wide), of_loop(*p.op, p.c->attrs), out, 0);
  for (size_t i = 0; i < out.size(); ++i) r.push_back(numbers(out[i], ran.out[i].data()));
  return r;
}

std::vector<In> ins(const Tensors& t) { return to_inputs(t); }
Tensors immediate(const OpDef& op, const AttrPtr& attrs, const Tensors& in) {
  return apply(op, attrs, ins(in));
}
std::vector<std::string> bits(const Tensors& t) {
  std::vector<std::string> r;
  for (auto& x : t) r.emplace_back(static_cast<const char*>(x.data()), size_t(x.sig().bytes()));
  return r;
}
void same_bits(Complaints& c, const std::string& who, const Tensors& got, const Tensors& expected) {
  if (got.size() != expected.size())
    return c.push_back(concat({who, ": ", got.size(), " outputs, expected ", expected.size()}));
  const auto a = bits(got), b = bits(expected);
  for (size_t i = 0; i < a.size(); ++i) {
    if (got[i].sig() != expected[i].sig())
      c.push_back(concat(
          {who, ": output ", i, " is ", str(got[i].sig()), ", expected ", str(expected[i].sig())}));
    else if (a[i] != b[i]) {
      const auto x = got[i].to_vector<double>(), y = expected[i].to_vector<double>();
      size_t at = 0, n = 0;
      for (size_t j = 0; j < x.size(); ++j)
        if (x[j] != y[j] && !n++) at = j;
      c.push_back(concat({who, ": output ", i, " ", str(got[i].sig()), " differs in ", n,
                          " elements, first ", at, ": ", x.empty() ? 0 : x[at], ", expected ",
                          y.empty() ? 0 : y[at]}));
    }
  }
}

// Runs f; an exception that is no Error is a complaint, an Error is handed to `refused`.
template <class F, class G>
void guarded(Complaints& c, const std::string& who, F f, G refused) {
  announce(who);
  try {
    f();
  } catch (const Error& e) {
    if (std::string_view(e.what()).empty()) c.push_back(who + ": an Error without a text");
    if (e.code() == Code::Internal) c.push_back(who + ": an internal error: " + e.what());
    refused(e);
  } catch (const std::exception& e) {
    c.push_back(who + ": threw " + e.what() + ", expected an Error");
  }
}
template <class F>
void guarded(Complaints& c, const std::string& who, F f) {
  guarded(c, who, f, [](const Error&) {});
}
template <class F>
void must_work(Complaints& c, const std::string& who, F f) {
  guarded(c, who, f, [&](const Error& e) { c.push_back(who + ": refused: " + e.what()); });
}
int64_t total_bytes(const Sigs& sigs) {
  int64_t n = 0;
  for (auto& s : sigs) n = checked_add(n, s.bytes());
  return n;
}
Complaints gradient_shapes(const Point& p);

// Shape rule, and the call itself when it is small. Errors pass through. What is accepted must be
// the same in all ways of computing it.
void try_call(Complaints& c, const Point& p, const AttrPtr& attrs, const std::string& who,
              bool comparable = true) {
  guarded(c, who, [&] {
    Sigs out = p.op->shape(p.sigs, attrs.get());
    if (total_bytes(out) > kSmall || total_bytes(p.sigs) > kSmall) return;
    if (!p.op->traits.reshape &&
        select_kernel(*p.op, {p.sigs, out}, attrs).prepared.scratch_bytes > 16 * kSmall)
      return;
    Tensors y = immediate(*p.op, attrs, p.tensors());
    for (size_t i = 0; i < y.size(); ++i)
      if (y[i].data(); y[i].sig() != out[i])
        c.push_back(concat(
            {who, ": output ", i, " is ", str(y[i].sig()), ", the shape rule says ", str(out[i])}));
    if (!comparable) return;
    Point q = p;
    const OpDef::Case accepted{p.c->name, p.c->in, attrs, p.c->flags};
    q.c = &accepted;
    for (auto& text : kernels(q, 4)) c.push_back(concat({who, ": accepted, but ", text}));
    for (auto& text : gradient_shapes(q)) c.push_back(concat({who, ": accepted, but ", text}));
  });
}
}  // namespace

Tensors Point::tensors() const {
  Tensors r;
  for (size_t i = 0; i < sigs.size(); ++i)
    r.push_back(constant(values[i], sigs[i].shape, sigs[i].dtype));
  return r;
}
const Arg& arg_of(const OpDef& op, size_t i) {
  return op.inputs[std::min(i, op.inputs.size() - 1)];
}
bool shape_only(const OpDef& op, size_t i) { return i < 32 && (op.traits.shape_only >> i & 1); }

std::vector<Point> points(const OpDef& op, const OpDef::Case& c, bool drawn) {
  const auto letters = letters_of(op, c);
  std::map<char, DType> base;
  for (auto& [l, types] : letters) base[l] = types[0];
  std::vector<Point> r{point(op, c, base, drawn)};  // even if it is refused: a complaint then
  if (!c.flags.fails.empty()) return r;
  for (auto& [l, types] : letters)
    for (size_t i = 1; i < types.size(); ++i) {
      auto chosen = base;
      chosen[l] = types[i];
      if (Point p = point(op, c, chosen, drawn); p.fits)
        r.push_back(std::move(p));  // attributes may allow fewer types; see types()
    }
  return r;
}
std::vector<Point> widest(const OpDef& op, const OpDef::Case& c) {
  std::map<char, DType> chosen;
  for (auto& [l, types] : letters_of(op, c))
    chosen[l] = std::count(types.begin(), types.end(), DType::f64) ? DType::f64 : types[0];
  Point p = point(op, c, chosen);
  for (size_t i = 0; i < p.sigs.size(); ++i)
    if (p.fits && is_floating(p.sigs[i].dtype) && !shape_only(op, i)) return {p};
  return {};
}
Point first(const OpDef& op, const OpDef::Case& c) { return points(op, c)[0]; }
Point with_sigs(const Point& p, const Sigs& sigs) {
  Point q = p;
  q.sigs = sigs;
  fill_in(q);
  return q;
}
bool differentiable(const Point& p) {
  const OpDef& op = *p.op;
  if (p.c->flags.no_gradient || !p.c->flags.fails.empty() || !op.no_gradient.empty() ||
      op.traits.cut)
    return false;
  bool in = false, out = false;
  for (size_t i = 0; i < p.sigs.size(); ++i)
    in |= is_floating(p.sigs[i].dtype) && !shape_only(op, i);
  for (auto& s : op.shape(p.sigs, p.c->attrs.get())) out |= is_floating(s.dtype);
  return in && out;
}

Complaints kernels(const Point& p, double slack) {
  Complaints c;
  must_work(c, p.name, [&] {
    const OpDef& op = *p.op;
    const AttrPtr& attrs = p.c->attrs;
    const Sigs out = op.shape(p.sigs, attrs.get());
    if (!op.loop && !op.reference) return;  // the sheet says why: its kernels are all there is
    const auto expected = oracle(p);
    // Not a number, or a large one: neither vanishes in a sum.
    const std::vector<Memory> in = inputs_of(p, 0xff), same = inputs_of(p, 0x4b);
    const double tol = slack * coarsest(p.sigs, out), input = largest_input(p);
    auto check = [&](const std::string& who, const Prepared& k) {
      announce(p.name + " " + who);
      Ran a = run(p, in, k, out, 0xff), b = run(p, same, k, out, 0x4b);
      for (auto* ran : {&a, &b})
        for (auto& text : ran->complaints)
          if (std::find(c.begin(), c.end(), who + ": " + text) == c.end())
            c.push_back(who + ": " + text);
      for (size_t i = 0; i < out.size(); ++i) {
        if (std::memcmp(a.out[i].data(), b.out[i].data(), a.out[i].bytes))
          c.push_back(concat({who, ": output ", i,
                              " depends on what was in its memory, in the scratch, or around"}));
        compare(c, who, i, out[i], numbers(out[i], a.out[i].data()), expected[i], tol, input);
      }
    };
    for (auto& k : op.kernels())
      if (!k.declines || k.declines({p.sigs, out}, attrs.get()).empty())
        check("kernel " + k.name, k.prepare({p.sigs, out}, attrs.get()));
    if (op.loop) check("loop", of_loop(op, attrs));
    if (op.reference) {
      Tensors y = op.reference(p.tensors(), attrs.get());
      for (size_t i = 0; i < out.size(); ++i) {
        if (y.size() != out.size() || y[i].sig() != out[i])
          c.push_back(
              concat({"reference: output ", i, " is ", i < y.size() ? str(y[i].sig()) : "missing",
                      ", the shape rule says ", str(out[i])}));
        else
          compare(c, "reference", i, out[i], y[i].to_vector<double>(), expected[i], 4 * tol,
                  input);  // it rounds between its operations
      }
    }
    Tensors y = immediate(op, attrs, p.tensors());
    for (size_t i = 0; i < out.size(); ++i)
      compare(c, "called", i, out[i], y[i].to_vector<double>(), expected[i], 4 * tol, input);
  });
  return c;
}

Complaints on_accelerator(const Point& p, Accelerator* on, bool* ran) {
  Complaints c;
  must_work(c, p.name, [&] {
    const OpDef& op = *p.op;
    const AttrPtr& attrs = p.c->attrs;
    const Sigs out = op.shape(p.sigs, attrs.get());
    if (!op.loop && !op.reference) return;
    const auto expected = oracle(p);
    const double tol = coarsest(p.sigs, out), input = largest_input(p);
    Tensors in = p.tensors();
    for (auto& k : op.kernels(true)) {
      const CallSig sig{p.sigs, out, on};
      if (k.declines && !k.declines(sig, attrs.get()).empty()) continue;
      announce(p.name + " " + k.name);
      const Prepared prepared = k.prepare(sig, attrs.get());
      std::vector<BufferPtr> memory;
      std::vector<View> views;
      for (size_t i = 0; i < in.size(); ++i) {
        memory.push_back(placed(in[i].buffer(), on));
        views.push_back({&p.sigs[i], memory.back()->data()});
      }
      for (auto& s : out) {
        memory.push_back(make_buffer(s.bytes(), on));
        views.push_back({&s, memory.back()->data()});
        if (s.bytes()) {
          const std::vector<char> poison(size_t(s.bytes()), char(0xff));
          on->upload(views.back().data, poison.data(), s.bytes());
        }
      }
      const BufferPtr scratch = make_buffer(std::max<int64_t>(prepared.scratch_bytes, 1), on);
      prepared.run({std::span(views).first(in.size()), std::span(views).subspan(in.size()),
                    scratch->data(), false, on});
      for (size_t i = 0; i < out.size(); ++i) {
        const Tensor y = tensor(out[i], placed(memory[in.size() + i], nullptr));
        compare(c, "kernel " + k.name, i, out[i], y.to_vector<double>(), expected[i], tol, input);
      }
    }
    CompileOptions options;
    options.device = on->device();
    Function f(options);
    Tensors y;
    try {
      y = f(in, [&](const Tensors& t) { return apply(op, attrs, to_inputs(t)); });
    } catch (const Error& e) {
      if (e.code() != Code::Unimplemented) throw;
      return;
    }
    if (ran) *ran = true;
    for (size_t i = 0; i < out.size(); ++i)
      compare(c, "compiled", i, out[i], y[i].to_vector<double>(), expected[i], 4 * tol, input);
  });
  return c;
}

namespace {
// The extents of a case, each once.
std::vector<int64_t> extents_of(const Point& p) {
  std::vector<int64_t> r;
  for (auto& s : p.sigs)
    for (int64_t e : s.shape)
      if (std::find(r.begin(), r.end(), e) == r.end()) r.push_back(e);
  return r;
}
// The same call where every extent `from` is `to`, if the shape rule takes it.
std::optional<Point> resized(const Point& p, int64_t from, int64_t to, int64_t most) {
  Sigs sigs = p.sigs;
  int64_t elements = 0;
  try {
    for (auto& s : sigs) {
      for (int d = 0; d < s.shape.rank(); ++d)
        if (s.shape[d] == from) s.shape = s.shape.with(d, to);
      elements += s.shape.count();
      if (elements > most) return std::nullopt;
    }
    for (auto& s : p.op->shape(sigs, p.c->attrs.get()))
      if (s.shape.count() > 4 * most) return std::nullopt;
  } catch (const Error&) {  // no such shape, or refused
    return std::nullopt;
  }
  Point q = with_sigs(p, sigs);
  q.name = concat({p.name, " with ", to, " for ", from});
  return q;
}
bool out_of_range(const Point& p) {  // indices into an axis that is shorter now
  try {
    immediate(*p.op, p.c->attrs, p.tensors());
    return false;
  } catch (const Error& e) {
    return e.code() == Code::OutOfRange;
  }
}
}  // namespace

Complaints sizes(const Point& p) {
  std::vector<int64_t> to{63, 64, 65, 127, 129};
  for (int64_t e = 1; e <= 40; ++e) to.push_back(e);
  Complaints c;
  for (int64_t from : extents_of(p))
    for (int64_t e : to)
      if (auto q = e == from ? std::nullopt : resized(p, from, e, 1 << 12); q && !out_of_range(*q))
        for (auto& text : kernels(*q, 4)) c.push_back(concat({e, " for ", from, ": ", text}));
  return c;
}

Complaints threads_enlarged(const Point& p) {
  constexpr int64_t kLarge = 1 << 17;
  int64_t elements = 0;
  for (auto& s : p.sigs) elements += s.shape.count();
  Complaints c;
  for (int64_t from : extents_of(p))
    if (elements && elements < kLarge / 2)
      if (auto q = resized(p, from, from * (kLarge / elements), kLarge); q && !out_of_range(*q))
        for (auto& text : threads(*q)) c.push_back(q->name + ": " + text);
  return c;
}

Complaints threads(const Point& p) {
  Complaints c;
  const int before = thread_count();
  must_work(c, p.name, [&] {
    const OpDef& op = *p.op;
    const AttrPtr& attrs = p.c->attrs;
    const Sigs out = op.shape(p.sigs, attrs.get());
    const std::vector<Memory> in = inputs_of(p);
    auto check = [&](const std::string& who, const std::function<Prepared()>& prepare) {
      std::vector<Ran> ran;
      for (int n : {1, 2, 3, 3}) {  // twice: a race need not show at once
        set_thread_count(n);
        ran.push_back(run(p, in, prepare(), out, 0));
        for (size_t i = 0; i < out.size(); ++i)
          if (std::memcmp(ran[0].out[i].data(), ran.back().out[i].data(), ran[0].out[i].bytes))
            c.push_back(concat(
                {who, ": output ", i, " has other bits with ", n, " threads than with one"}));
      }
    };
    for (auto& k : op.kernels())
      if (k.name.find("onednn") == std::string::npos &&
          (!k.declines || k.declines({p.sigs, out}, attrs.get()).empty()))
        check("kernel " + k.name, [&] { return k.prepare({p.sigs, out}, attrs.get()); });
    if (op.loop && total_bytes(p.sigs) < kSmall) check("loop", [&] { return of_loop(op, attrs); });
  });
  set_thread_count(before);
  return c;
}

Complaints modes(const Point& p) {
  Complaints c;
  must_work(c, p.name, [&] {
    const OpDef& op = *p.op;
    const Tensors x = p.tensors(), now = immediate(op, p.c->attrs, x);
    {
      Step step;
      same_bits(c, "in a Step", immediate(op, p.c->attrs, x), now);
    }
    Function f;
    const Function::Body body = [&](const Tensors& in) { return immediate(op, p.c->attrs, in); };
    same_bits(c, "compiled", f(x, body), now);
    same_bits(c, "compiled, second run", f(x, body), now);
  });
  return c;
}

// ---- gradients
// ------------------------------------------------------------------------------------------------------------------
namespace {
// A function of several tensors: values of its floating results.
using Many = std::vector<std::vector<double>>;
struct Differentiated {
  std::vector<std::string> names;  // of its arguments
  std::vector<Sig> sigs;
  Many at;
  std::function<Many(const Many&)> value;
  Many weights;         // F = sum of weights * value
  Many gradient;        // of F, as the system gives it
  bool coarse = false;  // something in it is f32
};
double weighted(const Many& w, const Many& v, double* size = nullptr) {
  double s = 0;
  for (size_t k = 0; k < w.size(); ++k)
    for (size_t i = 0; i < w[k].size(); ++i) {
      s += w[k][i] * v[k][i];
      if (size) *size += std::fabs(w[k][i] * v[k][i]);
    }
  return s;
}

// <gradient, d> against five-point differences along d. A kink in between is left behind by a
// smaller step; a wrong rule is wrong at each.
void against_differences(Complaints& c, const std::string& order, const Differentiated& f,
                         size_t dense, size_t coordinates, std::mt19937_64& g) {
  std::normal_distribution<double> normal;
  double size = 0;
  if (!std::isfinite(weighted(f.weights, f.value(f.at), &size))) return;
  for (size_t k = 0; k < f.at.size(); ++k) {
    const size_t n = f.at[k].size();
    if (!n) continue;
    double norm = 0;
    for (double x : f.gradient[k]) norm += x * x;
    norm = std::sqrt(norm);
    if (!std::isfinite(norm)) {
      c.push_back(concat({order, " gradient of ", f.names[k], " is not finite"}));
      continue;
    }
    for (size_t t = 0; t < dense + std::min(n, coordinates); ++t) {
      std::vector<double> d(n);
      const size_t one = n <= coordinates ? t - dense : g() % n;
      if (t < dense)
        for (double& x : d) x = normal(g);
      else
        d[one] = 1;
      double analytic = 0;
      for (size_t i = 0; i < n; ++i) analytic += f.gradient[k][i] * d[i];
      bool right = false;
      double numeric = 0;
      for (double h : f.coarse ? std::vector{2e-2, 2e-3} : std::vector{1e-3, 1e-5, 1e-6}) {
        auto at = [&](double s) {
          Many x = f.at;
          for (size_t i = 0; i < n; ++i) x[k][i] += s * d[i];
          return weighted(f.weights, f.value(x));
        };
        numeric = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
        const double noise = (f.coarse ? 3e-7 : 1e-15) * size / h;
        if (std::fabs(analytic - numeric) <=
            (f.coarse ? 3e-3 : 1e-6) * (std::fabs(analytic) + norm) + 10 * noise + 1e-12)
          right = true;
        if (right) break;
      }
      if (!right) {
        c.push_back(concat({order, " gradient of ", f.names[k], " ", str(f.sigs[k]),
                            t < dense ? " along a random direction" : concat({" at element ", one}),
                            " is ", analytic, ", differences give ", numeric}));
        break;
      }
    }
  }
}

struct Setup {
  std::vector<size_t> which;  // floating inputs
  std::vector<size_t> outs;   // floating outputs
  Sigs out;
  Many weights;
  bool coarse = false;
};
Setup set_up(const Point& p, std::mt19937_64& g) {
  Setup s;
  std::uniform_real_distribution<double> u(0.5, 1.5);
  s.out = p.op->shape(p.sigs, p.c->attrs.get());
  for (size_t i = 0; i < p.sigs.size(); ++i)
    if (is_floating(p.sigs[i].dtype)) {
      s.coarse |= p.sigs[i].dtype != DType::f64;
      if (!shape_only(*p.op, i)) s.which.push_back(i);
    }
  for (size_t i = 0; i < s.out.size(); ++i)
    if (is_floating(s.out[i].dtype)) {
      s.coarse |= s.out[i].dtype != DType::f64;
      s.outs.push_back(i);
      std::vector<double> w(size_t(s.out[i].shape.count()));
      for (double& x : w) x = (g() & 1 ? 1 : -1) * u(g);
      s.weights.push_back(rounded(w, s.out[i]));
    }
  return s;
}
Tensors at(const Point& p, const Setup& s, const Many& x, bool watched) {
  Tensors t;
  for (size_t i = 0, k = 0; i < p.sigs.size(); ++i) {
    const bool mine = k < s.which.size() && s.which[k] == i;
    Tensor v = constant(mine ? x[k] : p.values[i], p.sigs[i].shape, p.sigs[i].dtype);
    if (mine) ++k;
    t.push_back(mine && watched ? watch(v) : v);
  }
  return t;
}
Tensors pick(const Tensors& t, const std::vector<size_t>& which) {
  Tensors r;
  for (size_t i : which) r.push_back(t[i]);
  return r;
}
Many to_numbers(const Tensors& t) {
  Many r;
  for (auto& x : t) r.push_back(x.to_vector<double>());
  return r;
}
Tensors seeds_of(const Setup& s, const Many& w, bool watched) {
  Tensors r;
  for (size_t k = 0; k < s.outs.size(); ++k) {
    r.push_back(constant(w[k], s.out[s.outs[k]].shape, s.out[s.outs[k]].dtype));
    if (watched) r.back() = watch(r.back());
  }
  return r;
}
Tensors first_gradient(const Point& p, const Setup& s, const Tensors& in, const Tensors& seeds) {
  const Tensors y = pick(immediate(*p.op, p.c->attrs, in), s.outs), x = pick(in, s.which);
  return gradient(y, seeds, std::vector<Wrt>(x.begin(), x.end()));
}
// The gradient of each input has the signature of the input: a rule that takes more than it uses is
// found by this.
Complaints gradient_shapes(const Point& p) {
  Complaints c;
  if (!differentiable(p)) return c;
  must_work(c, "its gradient", [&] {
    auto g = generator(p.name);
    const Setup s = set_up(p, g);
    Many values;
    for (size_t i : s.which) values.push_back(p.values[i]);
    const Tensors d = first_gradient(p, s, at(p, s, values, true), seeds_of(s, s.weights, false));
    for (size_t k = 0; k < d.size(); ++k)
      if (d[k].sig() != p.sigs[s.which[k]])
        c.push_back(concat({"the gradient of ", arg_of(*p.op, s.which[k]).name, " is ",
                            str(d[k].sig()), ", expected ", str(p.sigs[s.which[k]])}));
  });
  return c;
}
}  // namespace

Complaints gradient_once(const Point& p) {
  Complaints c;
  must_work(c, p.name, [&] {
    auto g = generator(p.name);
    const Setup s = set_up(p, g);
    Differentiated f;
    for (size_t i : s.which)
      f.names.push_back(std::string(arg_of(*p.op, i).name)), f.sigs.push_back(p.sigs[i]),
          f.at.push_back(p.values[i]);
    f.coarse = s.coarse;
    f.weights = s.weights;
    f.value = [&](const Many& x) {
      return to_numbers(pick(immediate(*p.op, p.c->attrs, at(p, s, x, false)), s.outs));
    };
    if (c = gradient_shapes(p); !c.empty()) return;
    const Tensors d = first_gradient(p, s, at(p, s, f.at, true), seeds_of(s, s.weights, false));
    f.gradient = to_numbers(d);
    against_differences(c, "the", f, 2, 12, g);
  });
  return c;
}

// F = <v, dy/dx^T w> by x and by w.
Complaints gradient_twice(const Point& p) {
  Complaints c;
  must_work(c, p.name + ", second order", [&] {
    auto g = generator(p.name + "2");
    const Setup s = set_up(p, g);
    Differentiated f;
    for (size_t i : s.which)
      f.names.push_back(std::string(arg_of(*p.op, i).name)), f.sigs.push_back(p.sigs[i]),
          f.at.push_back(p.values[i]);
    const size_t n = s.which.size();
    for (size_t k = 0; k < s.outs.size(); ++k)
      f.names.push_back(concat({"the incoming gradient ", s.outs[k]})),
          f.sigs.push_back(s.out[s.outs[k]]), f.at.push_back(s.weights[k]);
    f.coarse = s.coarse;
    auto split = [&](const Many& x) {
      return std::pair{Many(x.begin(), x.begin() + long(n)), Many(x.begin() + long(n), x.end())};
    };
    auto both = [&](const Many& x, bool watched) {
      auto [in, w] = split(x);
      Tensors t = at(p, s, in, true), seeds = seeds_of(s, w, watched);
      return std::tuple{first_gradient(p, s, t, seeds), pick(t, s.which), seeds};
    };
    f.value = [&](const Many& x) { return to_numbers(std::get<0>(both(x, false))); };
    std::uniform_real_distribution<double> u(0.5, 1.5);
    auto [d, x, w] = both(f.at, true);
    Tensors v;
    for (size_t k = 0; k < d.size(); ++k) {
      std::vector<double> r(size_t(d[k].sig().shape.count()));
      for (double& y : r) y = (g() & 1 ? 1 : -1) * u(g);
      f.weights.push_back(rounded(r, d[k].sig()));
      v.push_back(constant(f.weights.back(), d[k].sig().shape, d[k].dtype()));
    }
    std::vector<Wrt> by(x.begin(), x.end());
    by.insert(by.end(), w.begin(), w.end());
    f.gradient = to_numbers(gradient(d, v, by));
    against_differences(c, "the second", f, 1, 3, g);
  });
  return c;
}

Complaints gradient_of_shared(const Point& p) {
  Complaints c;
  must_work(c, p.name + ", shared inputs", [&] {
    auto g = generator(p.name + "3");
    const Setup s = set_up(p, g);
    for (size_t a = 0; a < s.which.size(); ++a)
      for (size_t b = a + 1; b < s.which.size(); ++b) {
        if (p.sigs[s.which[a]] != p.sigs[s.which[b]]) continue;
        Point q = p;
        q.values[s.which[b]] = q.values[s.which[a]];
        Many values;
        for (size_t i : s.which) values.push_back(q.values[i]);
        Tensors x = at(q, s, values, true);
        const Tensors apart = first_gradient(q, s, x, seeds_of(s, s.weights, false));
        const Many d = to_numbers(apart);
        for (bool derived : {false, true}) {
          const Tensor& one = x[s.which[a]];
          x[s.which[b]] =
              derived ? call(find_op("negative"), {call(find_op("negative"), {one})[0]})[0] : one;
          const Tensors y = pick(immediate(*q.op, q.c->attrs, x), s.outs);
          const auto got = gradient(y, seeds_of(s, s.weights, false), std::vector<Wrt>{one})[0]
                               .to_vector<double>();
          std::vector<double> expected(got.size());
          for (size_t i = 0; i < got.size(); ++i) expected[i] = d[a][i] + d[b][i];
          compare(c,
                  concat({p.name,
                          derived ? ", input made from another: " : ", one tensor given twice: ",
                          "gradient of ", arg_of(*p.op, s.which[a]).name, " and ",
                          arg_of(*p.op, s.which[b]).name}),
                  0, q.sigs[s.which[a]], got, expected, s.coarse ? 1e-5 : 1e-9, 1);
        }
        return;  // one pair tells
      }
  });
  return c;
}

Complaints batches(const Point& p, std::string* skipped) {
  Complaints c;
  const OpDef& op = *p.op;
  if (p.sigs.empty() || !p.sigs[0].shape.rank()) {
    if (skipped) *skipped = "the first input has no leading extent";
    return c;
  }
  const int64_t n = p.sigs[0].shape[0];
  const bool differentiates = differentiable(p);
  Function f;
  const Function::Body body = [&](const Tensors& in) {
    Tensors y = immediate(op, p.c->attrs, in);
    if (!differentiates) return y;
    Tensors ys, x;
    for (auto& t : y)
      if (is_floating(t.dtype())) ys.push_back(t);
    for (size_t i = 0; i < p.sigs.size(); ++i)
      if (is_floating(p.sigs[i].dtype) && !shape_only(op, i)) x.push_back(in[i]);
    Tensors d =
        gradient(ys, ys,
                 std::vector<Wrt>(x.begin(),
                                  x.end()));  // of the half squared norm: seeds of the right shapes
    y.insert(y.end(), d.begin(), d.end());
    return y;
  };
  bool served = false;
  for (int64_t m : {n, n + 1, n - 1, int64_t(0)}) {
    if (m < 0) continue;
    Sigs sigs = p.sigs;
    for (auto& s : sigs)
      if (s.shape.rank() && s.shape[0] == n) s.shape = s.shape.with(0, m);
    const std::string who = concat({p.name, " with leading extent ", m});
    Sigs out;
    auto skip = [&](const char* why) {
      if (skipped) *skipped += concat({m, ": ", why, "; "});
    };
    try {
      out = op.shape(sigs, p.c->attrs.get());
    } catch (const Error& e) {
      skip(e.what());
      if (m == n) c.push_back(who + ": refused: " + e.what());
      continue;
    }
    guarded(
        c, who,
        [&] {
          const Point q = with_sigs(p, sigs);
          Tensors x = q.tensors(), watched;
          for (auto& t : x) watched.push_back(is_floating(t.dtype()) ? watch(t) : t);
          const Tensors now = body(watched), compiled = f(x, body);
          for (size_t i = 0; i < out.size(); ++i)
            if (now[i].sig() != out[i])
              c.push_back(concat({who, ": output ", i, " is ", str(now[i].sig()),
                                  ", the shape rule says ", str(out[i])}));
          same_bits(c, who + ", values then gradients, compiled", compiled, now);
          served = true;
        },
        [&](const Error& e) {
          if (e.code() == Code::OutOfRange && m != n)
            return skip(e.what());  // indices into an axis that is shorter now
          c.push_back(who + ": refused: " + e.what());
        });
  }
  if (served && f.traces() != 1) {
    std::string why;
    for (auto& line : f.log()) why += "\n  " + line;
    c.push_back(
        concat({p.name, ": ", f.traces(), " traces, expected one for all batch sizes:", why}));
  }
  return c;
}

Complaints wrong_shapes(const Point& p) {
  Complaints c;
  for (size_t i = 0; i < p.sigs.size(); ++i) {
    const Shape& s = p.sigs[i].shape;
    std::vector<std::vector<int64_t>> shapes{std::vector<int64_t>(s.begin(), s.end())};
    shapes[0].insert(shapes[0].begin(), 1);
    shapes.push_back(std::vector<int64_t>(s.begin(), s.end()));
    shapes.back().push_back(2);
    if (s.rank())
      shapes.push_back({s.begin() + 1, s.end()}), shapes.push_back({s.begin(), s.end() - 1}),
          shapes.push_back({});
    shapes.push_back(std::vector<int64_t>(size_t(kMaxRank), 1));
    for (int d = 0; d < s.rank(); ++d)
      for (int64_t e :
           {s[d] + 1, s[d] - 1, int64_t(0), int64_t(1), int64_t(1) << 40, int64_t(1) << 61}) {
        if (e < 0) continue;
        shapes.push_back({s.begin(), s.end()});
        shapes.back()[size_t(d)] = e;
      }
    for (auto& dims : shapes) {
      if (dims.size() > size_t(kMaxRank)) continue;
      Sigs sigs = p.sigs;
      try {
        sigs[i].shape = Shape(dims);
        if (sigs[i].bytes() > kSmall) {  // only the shape rule can be asked
          guarded(c, concat({p.name, " with ", arg_of(*p.op, i).name, " ", str(sigs[i])}),
                  [&] { (void)p.op->shape(sigs, p.c->attrs.get()); });
          continue;
        }
      } catch (const Error&) {
        continue;  // no such shape
      }
      try_call(c, with_sigs(p, sigs), p.c->attrs,
               concat({p.name, " with ", arg_of(*p.op, i).name, " ", str(sigs[i])}));
    }
  }
  return c;
}

Complaints wrong_types(const Point& p) {
  Complaints c;
  const OpDef& op = *p.op;
  auto refused = [&](const Point& q, size_t i) {
    const std::string who = concat({p.name, " with ", arg_of(op, i).name, " ", str(q.sigs[i])});
    bool ran = true;
    guarded(
        c, who, [&] { immediate(op, p.c->attrs, q.tensors()); },
        [&](const Error& e) {
          ran = false;
          if (std::string_view(e.what()).find(arg_of(op, i).name) == std::string_view::npos)
            c.push_back(who + ": the error does not name the argument: " + e.what());
          if (std::string_view(e.what()).find(op.name) == std::string_view::npos)
            c.push_back(who + ": the error does not name the operation: " + e.what());
        });
    if (ran) c.push_back(who + ": accepted");
  };
  for (size_t i = 0; i < p.sigs.size(); ++i) {
    const Types t = arg_of(op, i).types;
    for (int d = 0; d < kDTypes; ++d) {
      if (t.has(DType(d)) || (op.traits.promotes && t.letter)) continue;
      Sigs sigs = p.sigs;
      sigs[i].dtype = DType(d);
      refused(with_sigs(p, sigs), i);
    }
    for (size_t j = 0; j < i && t.letter && !op.traits.promotes; ++j) {
      if (arg_of(op, j).types.letter != t.letter) continue;
      for (int d = 0; d < kDTypes; ++d)
        if (t.has(DType(d)) && DType(d) != p.sigs[j].dtype) {
          Sigs sigs = p.sigs;
          sigs[i].dtype = DType(d);
          refused(with_sigs(p, sigs), i);
          break;
        }
      break;
    }
  }
  const size_t all = op.inputs.size(), least = all - size_t(std::popcount(op.traits.optional));
  auto count = [&](size_t n) {
    Tensors x = p.tensors();
    while (x.size() < n) x.push_back(x.empty() ? zeros({}) : x.back());
    x.resize(n);
    const std::string who = concat({p.name, " with ", n, " inputs"});
    bool ran = true;
    guarded(
        c, who, [&] { immediate(op, p.c->attrs, x); }, [&](const Error&) { ran = false; });
    if (ran) c.push_back(who + ": accepted");
  };
  for (size_t n = 0; n < least; ++n) count(n);
  if (!op.traits.variadic) count(all + 1);
  Tensors empty = p.tensors();
  if (!empty.empty()) {
    empty[0] = Tensor();
    bool ran = true;
    guarded(
        c, p.name + " with an empty tensor", [&] { immediate(op, p.c->attrs, empty); },
        [&](const Error&) { ran = false; });
    if (ran) c.push_back(p.name + ": an empty tensor was accepted");
  }
  return c;
}

Complaints refusal(const Point& p) {
  Complaints c;
  bool ran = true;
  guarded(
      c, p.name, [&] { immediate(*p.op, p.c->attrs, p.tensors()); },
      [&](const Error& e) {
        ran = false;
        if (std::string_view(e.what()).find(p.c->flags.fails) == std::string_view::npos)
          c.push_back(concat({p.name, ": the message is \"", e.what(), "\", expected \"",
                              p.c->flags.fails, "\" in it"}));
      });
  if (ran) c.push_back(concat({p.name, ": accepted, expected \"", p.c->flags.fails, "\""}));
  return c;
}

namespace {
std::vector<AttrValue> hostile(const AttrValue& v) {
  constexpr int64_t most = std::numeric_limits<int64_t>::max(),
                    least = std::numeric_limits<int64_t>::min();
  const std::vector<int64_t> ints{
      0, 1, -1, 2, 7, 100, -100, int64_t(1) << 31, int64_t(1) << 40, most, most - 1, least};
  const std::vector<double> floats{0, 1, -1, 0.5, 1e308, -1e308, 1e-320, NAN, INFINITY, -INFINITY};
  std::vector<AttrValue> r;
  if (std::holds_alternative<bool>(v))
    r = {true, false};
  else if (std::holds_alternative<int64_t>(v))
    r.assign(ints.begin(), ints.end());
  else if (std::holds_alternative<double>(v))
    r.assign(floats.begin(), floats.end());
  else if (std::holds_alternative<std::string>(v))
    r = {std::string(), std::string("wrong"), std::string("\xff\xfe\0x", 4),
         std::string(100000, 'x')};
  else if (std::holds_alternative<DType>(v)) {
    for (int d = 0; d < kDTypes; ++d) r.push_back(DType(d));
  } else if (std::holds_alternative<Shape>(v))
    r = {Shape(), Shape({0}), Shape({1}), Shape({int64_t(1) << 58}),
         Shape(std::vector<int64_t>(size_t(kMaxRank), 1))};
  else if (std::holds_alternative<SubGraphPtr>(v))
    r = {SubGraphPtr(), SubGraphPtr(std::make_shared<SubGraph>())};
  else if (auto* list = std::get_if<std::vector<int64_t>>(&v)) {
    r = {std::vector<int64_t>{}, std::vector<int64_t>(1000, 1), std::vector<int64_t>(9, 0),
         std::vector<int64_t>{0, 0}, std::vector<int64_t>{-1, -1}};
    for (int64_t x : ints) {
      r.push_back(std::vector<int64_t>{x});
      for (size_t i = 0; i < list->size(); ++i) {
        auto copy = *list;
        copy[i] = x;
        r.push_back(copy);
      }
      r.push_back(std::vector<int64_t>(list->size() + 1, x));
    }
  } else if (auto* reals = std::get_if<std::vector<double>>(&v)) {
    r = {std::vector<double>{}, std::vector<double>(1000, 1)};
    for (double x : floats)
      r.push_back(std::vector<double>{x}), r.push_back(std::vector<double>(reals->size(), x));
  }
  return r;
}
Key key_of(const std::vector<AttrValue>& v) {
  Key k;
  for (auto& x : v) append(k, x);
  return k;
}
}  // namespace

Complaints attributes(const Point& p) {
  Complaints c;
  const OpDef& op = *p.op;
  const std::vector<AttrValue> mine = op.get_attrs(p.c->attrs.get());
  if (mine.size() != op.attrs.size())
    c.push_back(
        concat({op.name, ": ", mine.size(), " attribute values, ", op.attrs.size(), " declared"}));
  must_work(c, p.name + ", attributes made again", [&] {
    if (key_of(op.get_attrs(op.make_attrs(mine).get())) != key_of(mine))
      c.push_back(p.name + ": attributes change on the way through make and get");
  });
  for (size_t i = 0; i < mine.size(); ++i) {
    for (auto& v : hostile(mine[i])) {
      auto changed = mine;
      changed[i] = v;
      const std::string text = str(v),
                        who = concat({p.name, " with ", op.attrs[i].name, "=",
                                      text.size() > 60 ? text.substr(0, 60) + "..." : text});
      AttrPtr attrs;
      guarded(c, who, [&] { attrs = op.make_attrs(changed); });
      // A huge number is infinite in some types.
      const bool real =
          std::holds_alternative<double>(v) || std::holds_alternative<std::vector<double>>(v);
      if (attrs) try_call(c, p, attrs, who, !real);
    }
    auto changed = mine;
    changed[i] = std::holds_alternative<std::string>(mine[i]) ? AttrValue(true)
                                                              : AttrValue(std::string("wrong"));
    const std::string who = concat({p.name, " with ", op.attrs[i].name, " of another type"});
    bool ran = true;
    guarded(
        c, who, [&] { op.make_attrs(changed); }, [&](const Error&) { ran = false; });
    if (ran) c.push_back(who + ": accepted");
  }
  return c;
}

Complaints types(const OpDef& op) {
  Complaints c;
  std::map<size_t, uint32_t> seen;  // of each declared input
  for (auto& k : op.cases) {
    if (!k.flags.fails.empty()) continue;
    for (const Point& p : points(op, k, false))
      for (size_t i = 0; i < p.sigs.size(); ++i)
        seen[std::min(i, op.inputs.size() - 1)] |= uint32_t(p.fits) << int(p.sigs[i].dtype);
  }
  for (auto& [i, mask] : seen)
    for (int d = 0; d < kDTypes; ++d)
      if (op.inputs[i].types.letter && op.inputs[i].types.has(DType(d)) && !(mask >> d & 1))
        c.push_back(concat({op.name, ": ", op.inputs[i].name, " is declared to take ",
                            str(DType(d)), ", and no case with it is accepted"}));
  return c;
}

Complaints sheet(const OpDef& op) {
  Complaints c;
  auto say = [&](std::initializer_list<Part> parts) {
    c.push_back(op.name + ": " + concat(parts));
  };
  for (size_t i = 0; i < op.name.size(); ++i) {
    const char x = op.name[i];
    if (!(x >= 'a' && x <= 'z') && !(i && (x == '_' || (x >= '0' && x <= '9')))) {
      say({"its name is not snake_case"});
      break;
    }
  }
  if (op.summary.empty()) say({"no summary"});
  for (auto& a : op.inputs)
    if (a.name.empty() || a.doc.empty()) say({"input \"", a.name, "\" has no documentation"});
  for (auto& o : op.outputs)
    if (o.name.empty() || o.doc.empty()) say({"output \"", o.name, "\" has no documentation"});
  if (op.outputs.empty()) say({"no outputs are declared"});
  bool graphs = false;  // a call needs a sub-graph: a data sheet cannot hold one
  for (auto& a : op.attrs) {
    if (a.doc.empty()) say({"attribute \"", a.name, "\" has no documentation"});
    graphs |= std::holds_alternative<SubGraphPtr>(a.default_value);
  }
  if (op.inputs.empty() && !op.shape) return c;  // a leaf
  if (!op.shape) say({"no shape rule"});
  size_t good = 0;
  std::vector<std::string> names;
  for (auto& k : op.cases) {
    good += k.flags.fails.empty();
    if (std::count(names.begin(), names.end(), k.name))
      say({"two cases are called \"", k.name, "\""});
    names.push_back(k.name);
  }
  if (good < 2 && !graphs && !op.traits.cut) say({good, " cases that work, expected at least 2"});
  if (!op.loop && !op.reference && !op.traits.reshape && !op.traits.alias && op.kernels().empty() &&
      !op.traits.cut)
    say({"neither kernel, loop nor reference"});
  if (!op.loop && !op.reference && !graphs && !op.traits.cut && !op.traits.alias)
    say({"neither loop nor reference: nothing to hold its kernels against"});
  bool floats = false;
  for (auto& a : op.inputs) floats |= (a.types.mask & floating.mask) != 0;
  if (floats && !op.gradient && !op.reference && op.no_gradient.empty())
    say({"neither gradient nor reference, and no reason why"});
  if (op.gradient && !op.no_gradient.empty()) say({"a gradient, and a reason why there is none"});
  return c;
}

// ---- when a check crashes
// --------------------------------------------------------------------------------------------------------
namespace {
char now[1024];
void died(int signal) {
  constexpr char text[] = "\ncrashed while checking: ";
  (void)!write(2, text, sizeof text - 1);
  (void)!write(2, now, strnlen(now, sizeof now));
  (void)!write(2, "\n", 1);
  std::signal(signal, SIG_DFL);
  raise(signal);
}
}  // namespace
void announce(const std::string& what) {
  const size_t n = std::min(what.size(), sizeof now - 1);
  std::memcpy(now, what.data(), n);
  now[n] = 0;
}
void install_crash_handler() {
#if !defined(__SANITIZE_ADDRESS__)
  for (int s : {SIGSEGV, SIGFPE, SIGABRT, SIGILL, SIGBUS}) std::signal(s, died);
#endif
}

}  // namespace evenflow::checks
