// SPDX-License-Identifier: Apache-2.0
#include "services/meta_reward_server/reviewer.h"

#include <algorithm>
#include <cstddef>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "mpo/base/status_macros.h"

namespace mpo::meta_reward_server {
namespace {

class ReviewSession {
 public:
  ReviewSession(const Rubric& rubric, const std::vector<Observation>& baseline,
                const std::vector<Observation>& recent, ReviewMemory memory,
                const ReviewerOptions& options)
      : baseline_(baseline),
        recent_(recent),
        memory_(std::move(memory)),
        options_(options),
        original_(rubric),
        rules_(options.rules) {
    proposal_.rubric = rubric;
  }

  RefinementProposal Run() && {
    const size_t least = static_cast<size_t>(rules_.least_evidence);
    if (baseline_.size() < least || recent_.size() < least) {
      proposal_.analyses.push_back(absl::StrFormat(
          "too little evidence for a review: %d baseline and %d recent "
          "responses, at least %d of each are needed",
          baseline_.size(), recent_.size(), least));
      proposal_.memory = WriteMemory(memory_);
      return std::move(proposal_);
    }
    Analyse();
    Harden();
    AnswerShifts();
    AskForMerits();
    RaiseTheBar();
    Merge();
    if (proposal_.rubric == original_) proposal_.changes.clear();
    for (const Shift& shift : shifts_) memory_[shift.rule->measure] = shift.z;
    proposal_.memory = WriteMemory(memory_);
    return std::move(proposal_);
  }

 private:
  void Change(const std::string& action, const Criterion& criterion,
              std::string reason) {
    proposal_.changes.push_back({action, criterion.id, std::move(reason)});
  }

  // 1. Which degenerate measures moved away from the untrained policy?
  void Analyse() {
    shifts_ = FindShifts(baseline_, recent_, rules_);
    for (const Shift& shift : shifts_) {
      proposal_.analyses.push_back(absl::StrCat(
          shift.rule->measure, ": ", Figures(shift),
          shift.suspicious ? "; moved away from the untrained policy" : "",
          shift.excused
              ? absl::StrCat("; excused, ", shift.rule->excuse, " improved")
              : ""));
    }
    for (const Shift& shift : shifts_) {
      if (shift.suspicious) suspicious_.push_back(shift);
    }
    std::stable_sort(suspicious_.begin(), suspicious_.end(),
                     [](const Shift& a, const Shift& b) { return a.z > b.z; });
  }

  // 2a. Saturated or gamed counts become their quality variant.
  void Harden() {
    for (Criterion& criterion : proposal_.rubric.criteria) {
      if (!criterion.check.has_value()) continue;
      for (const HardenRule& rule : HardenRules()) {
        if (criterion.check->name != rule.measure) continue;
        const Check harder{rule.harder, rule.zero_at, rule.saturate_at};
        if (criterion.check->name == harder.name &&
            criterion.check->saturate_at <= harder.saturate_at) {
          break;
        }
        HardenOne(criterion, rule, harder);
        break;
      }
    }
  }

  void HardenOne(Criterion& criterion, const HardenRule& rule,
                 const Check& harder) {
    const double mean = MomentsOf(Shares(recent_, *criterion.check)).mean;
    double link = 0;
    std::string with;
    for (const Shift& shift : suspicious_) {
      const double correlation =
          LinkBetween(baseline_, recent_, rule.measure, *shift.rule);
      if (correlation > link) {
        link = correlation;
        with = shift.rule->measure;
      }
    }
    if (mean < rules_.saturated && link <= rules_.linked) return;
    std::string reason = absl::StrFormat("%s earns %.0f%% of its points",
                                         rule.measure, 100 * mean);
    if (!with.empty()) {
      absl::StrAppendFormat(
          &reason, " and correlates %.2f with the shift of %s", link, with);
    }
    absl::StrAppendFormat(&reason,
                          "; read as %s, full marks at %g, from now on",
                          harder.name, harder.saturate_at);
    hardened_.insert(rule.measure);
    criterion.check = harder;
    criterion.text = rule.text;
    criterion.levels.clear();
    Change("harden", criterion, std::move(reason));
  }

  // Criteria that answer a shift: those whose ramp falls in its direction.
  Criterion* Answer(const Shift& shift) {
    for (Criterion& criterion : proposal_.rubric.criteria) {
      if (criterion.check.has_value() &&
          criterion.check->name == shift.rule->measure &&
          criterion.polarity == Polarity::kAward &&
          (criterion.check->zero_at - criterion.check->saturate_at) *
                  shift.rule->sign >
              0) {
        return &criterion;
      }
    }
    return nullptr;
  }

  // 2b. Counter-criteria for the worst shifts; wider or heavier ones where
  // they are already there.
  void AnswerShifts() {
    for (const Shift& shift : suspicious_) {
      const int sign = shift.rule->sign;
      // No marks only for the worst texts of now, so that a slope exists.
      const double worst =
          sign * Quantile(Column(recent_, shift.rule->measure, sign),
                          rules_.slope_quantile);
      if (Criterion* have = Answer(shift); have != nullptr) {
        const double mean = MomentsOf(Shares(recent_, *have->check)).mean;
        if (mean < rules_.widen_below &&
            sign * (worst - have->check->zero_at) > 0) {
          Widen(*have, shift, worst, mean);
        } else {
          RaiseUnlessShrinking(*have, shift);
        }
      } else if (shift.pay > rules_.least_pay && added_ < rules_.most_added &&
                 hardened_.count(shift.rule->family) == 0) {
        AddCounter(shift, worst);
      }
    }
  }

  void Widen(Criterion& criterion, const Shift& shift, double worst,
             double mean) {
    Change("widen", criterion,
           absl::StrFormat("%s; responses earn %.0f%% of it, so it has no "
                           "slope; no points at %.3f instead of %.3f",
                           Figures(shift), 100 * mean, worst,
                           criterion.check->zero_at));
    criterion.check->zero_at = worst;
  }

  // Aggregations that ignore weights cannot be raised.
  bool WeightsCount() const {
    const Aggregation aggregation = proposal_.rubric.aggregation;
    return aggregation == Aggregation::kWeighted ||
           aggregation == Aggregation::kGated ||
           aggregation == Aggregation::kSaturating;
  }

  void RaiseUnlessShrinking(Criterion& criterion, const Shift& shift) {
    const auto last = memory_.find(shift.rule->measure);
    const double before = last == memory_.end() ? 0 : last->second;
    if (shift.z < rules_.trend * before ||
        criterion.weight >= rules_.most_weight || !WeightsCount()) {
      return;
    }
    criterion.weight =
        std::min(rules_.most_weight, criterion.weight + rules_.raise_by);
    Change("raise", criterion,
           absl::StrFormat("%s (z %.2f at the last review): the shift does not "
                           "shrink; weight %g",
                           Figures(shift), before, criterion.weight));
  }

  void AddCounter(const Shift& shift, double worst) {
    const WatchRule& rule = *shift.rule;
    const double deviation = std::max(shift.base.deviation, rule.floor);
    const double full =
        shift.base.mean + rule.sign * rules_.full_marks * deviation;
    double none = shift.base.mean + rule.sign * rules_.no_marks * deviation;
    if (rule.sign * (worst - none) > 0) none = worst;
    Add(MakeCriterion(rule.id, rule.title, rule.text, rule.measure, none, full),
        absl::StrFormat("%s: %s moved away from the untrained policy and pays; "
                        "full marks up to %.3f, none from %.3f",
                        Figures(shift), rule.measure, full, none));
    ++added_;
  }

  void Add(Criterion criterion, std::string reason) {
    const std::string wanted = criterion.id;
    for (int i = 2; HasId(criterion.id); ++i) {
      criterion.id = absl::StrCat(wanted, "_", i);
    }
    Change("add", criterion, std::move(reason));
    proposal_.rubric.criteria.push_back(std::move(criterion));
  }

  bool HasId(const std::string& id) const {
    const auto& criteria = proposal_.rubric.criteria;
    return std::any_of(criteria.begin(), criteria.end(),
                       [&](const Criterion& c) { return c.id == id; });
  }

  Criterion* Reading(const std::string& measure) {
    for (Criterion& criterion : proposal_.rubric.criteria) {
      if (criterion.check.has_value() && criterion.check->name == measure) {
        return &criterion;
      }
    }
    return nullptr;
  }

  // 2c. Merits that fell under the untrained policy are asked for.
  void AskForMerits() {
    for (const MeritRule& rule : MeritRules()) {
      if (!rule.on_fall) continue;
      const std::vector<double> base = Column(baseline_, rule.measure);
      const std::vector<double> now = Column(recent_, rule.measure);
      if (base.empty() || now.empty()) continue;
      const Moments before = MomentsOf(base);
      const double mean = MomentsOf(now).mean;
      if (before.mean - mean <=
          rules_.merit_drop *
              std::max(before.deviation, rules_.merit_least_deviation)) {
        continue;
      }
      const std::string figures = absl::StrFormat(
          "%s fell under the untrained policy: base mean %.2f, "
          "now %.2f",
          rule.measure, before.mean, mean);
      Criterion* have = Reading(rule.measure);
      if (have == nullptr) {
        Add(MakeCriterion(rule.id, rule.title, rule.text, rule.measure,
                          rule.zero_at, rule.saturate_at),
            figures);
      } else if (have->weight < rules_.most_weight && WeightsCount()) {
        have->weight =
            std::min(rules_.most_weight, have->weight + rules_.merit_raise_by);
        Change("raise", *have,
               absl::StrFormat("%s; weight %g", figures, have->weight));
      }
    }
  }

  // 2d. The rubric no longer separates answers: ask for the merit, not asked
  // for yet, in which they differ most.
  void RaiseTheBar() {
    if (added_ > 0) return;
    std::vector<double> totals;
    for (const Observation& row : recent_) {
      if (row.share.has_value()) totals.push_back(*row.share);
    }
    const double mean = MomentsOf(totals).mean;
    if (totals.empty() || mean < rules_.bar_mean) return;
    const MeritRule* best = nullptr;
    double most = rules_.bar_spread;
    for (const MeritRule& rule : MeritRules()) {
      if (!rule.raise_bar || Reading(rule.measure) != nullptr) continue;
      const double spread =
          MomentsOf(
              Shares(recent_, {rule.measure, rule.zero_at, rule.saturate_at}))
              .deviation;
      if (spread > most) {
        most = spread;
        best = &rule;
      }
    }
    if (best == nullptr) return;
    Add(MakeCriterion(best->id, best->title, best->text, best->measure,
                      best->zero_at, best->saturate_at),
        absl::StrFormat("responses earn %.0f%% of the rubric; %s still "
                        "separates them (deviation %.2f of its range)",
                        100 * mean, best->measure, most));
  }

  // 3. Too many criteria: those that tell responses apart least go.
  void Merge() {
    auto& criteria = proposal_.rubric.criteria;
    while (criteria.size() > static_cast<size_t>(options_.max_criteria)) {
      auto least = criteria.end();
      double value = 0;
      for (auto it = criteria.begin(); it != criteria.end(); ++it) {
        if (!it->check.has_value() || it->mode != CriterionMode::kScore) {
          continue;
        }
        const double worth =
            it->weight * (rules_.merge_offset +
                          MomentsOf(Shares(recent_, *it->check)).deviation);
        if (least == criteria.end() || worth < value) {
          least = it;
          value = worth;
        }
      }
      if (least == criteria.end()) return;
      Change("drop", *least,
             absl::StrFormat("more than %d criteria; it tells responses apart "
                             "least (%.3f)",
                             options_.max_criteria, value));
      criteria.erase(least);
    }
  }

  const std::vector<Observation>& baseline_;
  const std::vector<Observation>& recent_;
  ReviewMemory memory_;
  const ReviewerOptions& options_;
  const Rubric& original_;
  const ReviewRules& rules_;
  std::vector<Shift> shifts_;      // One a watched measure, in table order.
  std::vector<Shift> suspicious_;  // Largest z first.
  std::set<std::string> hardened_;
  int added_ = 0;
  RefinementProposal proposal_;
};

}  // namespace

absl::StatusOr<RefinementProposal> ReviewObservations(
    const Rubric& rubric, const std::vector<Observation>& baseline,
    const std::vector<Observation>& recent, const std::string& memory,
    const ReviewerOptions& options) {
  if (baseline.empty() || recent.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a review needs baseline and recent responses, got ",
                     baseline.size(), " and ", recent.size()));
  }
  MPO_ASSIGN_OR_RETURN(ReviewMemory last, ReadMemory(memory));
  return ReviewSession(rubric, baseline, recent, std::move(last), options)
      .Run();
}

absl::StatusOr<RefinementProposal> Review(const RefinementRequest& request,
                                          const ReviewerOptions& options) {
  MPO_ASSIGN_OR_RETURN(const std::vector<Observation> baseline,
                       Observe(request.baseline));
  MPO_ASSIGN_OR_RETURN(const std::vector<Observation> recent,
                       Observe(request.recent));
  return ReviewObservations(request.rubric, baseline, recent, request.memory,
                            options);
}

absl::StatusOr<RefinementProposal> EmbeddedReviewer::Refine(
    const RefinementRequest& request, const ProgressSink& progress,
    std::stop_token /*stop*/) {
  if (progress) progress({"analyse", 0, 1});
  auto proposal = Review(request, options_);
  if (progress && proposal.ok()) progress({"analyse", 1, 1});
  return proposal;
}

}  // namespace mpo::meta_reward_server
