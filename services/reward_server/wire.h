// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mpo/judge/judge.h"
#include "mpo/v1/reward_service.pb.h"
#include "mpo/wire/nouns.h"

namespace mpo::reward_server {

using wire::FromProto;
using wire::ToProto;

judge::JudgeItem FromProto(const v1::ScoreRequest::Item& item);

}  // namespace mpo::reward_server
