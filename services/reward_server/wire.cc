// SPDX-License-Identifier: Apache-2.0
#include "services/reward_server/wire.h"

namespace mpo::reward_server {

judge::JudgeItem FromProto(const v1::ScoreRequest::Item& item) {
  judge::JudgeItem judged;
  judged.prompt = FromProto(item.prompt());
  judged.response = item.response();
  if (item.has_base_mean_logprob()) {
    judged.base_mean_logprob = item.base_mean_logprob();
  }
  return judged;
}

}  // namespace mpo::reward_server
