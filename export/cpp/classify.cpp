// classify MODEL.onnx < images.rgb: a line of logits and a line with the class and its confidence for each image.
//
// Needs OpenVINO, whose Python wheel contains the C++ headers and libraries. The input is raw bytes, one image after
// the other in the model's size: height * width * 3, RGB, row by row. To come from an image file to these bytes, follow
// "Preprocessing" in ../README.md.

#include <algorithm>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <openvino/openvino.hpp>

/** Return the class names from `model.json`, which `cifarnet export` writes beside the model. */
std::vector<std::string> read_labels(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  const std::string json = text.str(), key = "\"labels\":";
  std::vector<std::string> labels;
  const size_t start = json.find(key);
  if (start == std::string::npos) throw std::runtime_error(path + " has no labels; expected the file of the model");
  bool inside = false;
  for (size_t at = json.find('[', start) + 1; at < json.size() && (inside || json[at] != ']'); ++at) {
    if (json[at] == '"') {
      inside = !inside;
      if (inside) labels.emplace_back();
    } else if (inside) {
      if (json[at] == '\\') labels.back() += json[at++];  // escapes stay as they are written
      labels.back() += json[at];
    }
  }
  return labels;
}

/** Return the last line of a text: OpenVINO's first ones name places in its source. */
std::string last_line(std::string text) {
  text.erase(text.find_last_not_of(" \n") + 1);
  return text.substr(text.rfind('\n') + 1);
}

void classify(const std::string& path, std::istream& images) {
  ov::Core core;
  // The default on CPUs with bfloat16 or float16 is to round to it.
  auto model = core.compile_model(path, "CPU", ov::hint::inference_precision(ov::element::f32));
  const auto labels = read_labels(path.substr(0, path.rfind('.')) + ".json");
  const auto classes = model.output("logits").get_partial_shape()[1];
  if (!classes.same_scheme(labels.size())) throw std::runtime_error(path + " does not match the labels beside it");
  auto request = model.create_infer_request();
  auto shape = model.input("images").get_partial_shape();
  shape[0] = 1;
  ov::Tensor pixels(ov::element::u8, shape.to_shape());
  request.set_tensor("images", pixels);
  const auto bytes = static_cast<std::streamsize>(pixels.get_byte_size());
  while (images.read(reinterpret_cast<char*>(pixels.data<uint8_t>()), bytes)) {
    request.infer();
    const float* logits = request.get_tensor("logits").data<float>();
    const float* confidences = request.get_tensor(model.outputs().back()).data<float>();
    for (size_t each = 0; each < labels.size(); ++each) std::printf("%s%.9g", each ? " " : "", logits[each]);
    const size_t best = std::max_element(confidences, confidences + labels.size()) - confidences;
    std::printf("\n%s %.1f%%\n", labels[best].c_str(), 100 * confidences[best]);
  }
  if (images.gcount()) {
    throw std::runtime_error("the last image has " + std::to_string(images.gcount()) + " bytes; expected " +
                             std::to_string(bytes) + ", height * width * 3: convert it");
  }
}

int main(int count, char** arguments) {
  if (count != 2) {
    std::cerr << "error: expected a model and images on stdin: classify MODEL.onnx < images.rgb\n";
    return 1;
  }
  try {
    classify(arguments[1], std::cin);
  } catch (const ov::Exception& error) {
    std::cerr << "error: " << arguments[1] << " cannot be used (" << last_line(error.what())
              << "); expected a model from `cifarnet export --onnx`\n";
    return 1;
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
}
