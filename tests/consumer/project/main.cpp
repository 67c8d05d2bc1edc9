#include <cstdio>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include <boost/serialization/string.hpp>

#include <trireme/trireme.hpp>

namespace {

struct Point {
  double x = 0, y = 0;
  std::string name;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& x& y& name;
  }
};

double square(double value) { return value * value; }
double norm(const Point& point) { return point.x * point.x + point.y * point.y; }

class Sum {
 public:
  void add(double value) { total_ += value; }
  double total() const { return total_; }

 private:
  double total_ = 0;
};

bool equal(const char* what, double found, double expected) {
  if (found == expected) return true;
  std::fprintf(stderr, "%s: found %g, expected %g\n", what, found, expected);
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  if (std::strcmp(trireme::library_version(), TRIREME_VERSION_STRING) != 0) {
    std::fprintf(stderr, "header %s, library %s\n", TRIREME_VERSION_STRING, trireme::library_version());
    return 1;
  }
  trireme::Runtime rt(argc, argv);
  std::vector<double> numbers(100);
  std::iota(numbers.begin(), numbers.end(), 1.0);
  auto sum = rt.spawn<Sum>();
  for (auto& part : trireme::map<&square>(numbers)) sum.call<&Sum::add>(part);
  const bool tasks = equal("sum of squares", rt.get(sum.call<&Sum::total>()), 338350);
  const bool user_type = equal("norm", rt.get(rt.submit<&norm>(rt.put(Point{3, 4, "a"}))), 25);
  return tasks && user_type ? 0 : 1;
}
