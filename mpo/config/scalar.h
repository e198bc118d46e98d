// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <string>

#include "mpo/config/v1/rule.pb.h"

namespace mpo::config {

// Puts a scalar written as `text` into `field` (added where it is repeated), if
// it is of the field's type and keeps the rule. Returns what is wrong, else "".
std::string SetScalar(const std::string& text, const v1::Rule& rule,
                      const google::protobuf::FieldDescriptor& field,
                      google::protobuf::Message& message);

// The value of a scalar field as YAML; `index` -1 for one that is not repeated.
std::string ScalarToYaml(const google::protobuf::Message& message,
                         const google::protobuf::FieldDescriptor& field,
                         int index);

}  // namespace mpo::config
