// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>

#include "mpo/judge/chat_client.h"
#include "mpo/v1/reward_service.grpc.pb.h"
#include "services/reward_server/reward_engine.h"

namespace mpo::reward_server {

// What GetJudges tells of the judge.
struct JudgeStatus {
  std::string name;
  std::string kind;  // "embedded" or "http".
  judge::ChatModelStatus model;
};

// RewardService on the wire: converts messages and hands them to the engine.
// No method blocks. Thread-safe.
class RewardService final : public v1::RewardService::CallbackService {
 public:
  // `engine` must outlive the service; `status` may be called at any time.
  RewardService(RewardEngine& engine, std::function<JudgeStatus()> status)
      : engine_(engine), status_(std::move(status)) {}

  grpc::ServerWriteReactor<v1::ScoreResponse>* Score(
      grpc::CallbackServerContext* context,
      const v1::ScoreRequest* request) override;
  grpc::ServerUnaryReactor* InstallRubric(
      grpc::CallbackServerContext* context,
      const v1::InstallRubricRequest* request,
      v1::InstallRubricResponse* response) override;
  grpc::ServerUnaryReactor* GetRubric(
      grpc::CallbackServerContext* context,
      const v1::GetInstalledRubricRequest* request,
      v1::GetInstalledRubricResponse* response) override;
  grpc::ServerUnaryReactor* GetJudges(grpc::CallbackServerContext* context,
                                      const v1::GetJudgesRequest* request,
                                      v1::GetJudgesResponse* response) override;

 private:
  RewardEngine& engine_;
  const std::function<JudgeStatus()> status_;
};

}  // namespace mpo::reward_server
