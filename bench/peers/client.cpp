// An open-loop HTTP client: requests are due at random times whether or not the server keeps up (Poisson arrivals), and
// latency counts from when one was due, however late it was sent.
//
// Usage: client PORT PATH BODIES CONNECTIONS SECONDS RATE SEED. BODIES is a file with one body a line. With a rate of 0
// each connection sends its next request when it has its answer. Prints one JSON object, times in microseconds.
// Compiled and run by `python -m bench.peers`.
//
// Answers other than 200 are counted as refused and nowhere else. Connections are kept alive and carry one request at a time; who finds none idle waits here, as at a proxy. After
// SECONDS nothing more is due; what is not answered within as long again counts with the time it has waited so far.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr std::int64_t second = 1'000'000'000;

// The clock of timerfd, so that a time is when to wake.
std::int64_t now_ns() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * second + time.tv_nsec;
}

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "%s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

struct Connection {
  int socket = -1;
  std::int64_t due = 0;
  bool busy = false;
  std::string got;
};

int connected(int port) {
  const int made = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (made < 0 || connect(made, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) fail("connect");
  const int on = 1;
  setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return made;
}

// Bytes of the answer that begins `got` when it is whole, 0 before. Its length must be said.
std::size_t whole(const std::string& got) {
  const std::size_t head = got.find("\r\n\r\n");
  if (head == std::string::npos) return 0;
  static constexpr std::string_view name = "\r\ncontent-length:";
  const auto alike = [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b; };
  const auto end = got.begin() + static_cast<std::ptrdiff_t>(head);
  const auto at = std::search(got.begin(), end, name.begin(), name.end(), alike);
  if (at == end) {
    std::fprintf(stderr, "an answer without content-length:\n%s\n", got.c_str());
    std::exit(1);
  }
  const std::size_t size = head + 4 + std::strtoull(&*at + name.size(), nullptr, 10);
  return got.size() >= size ? size : 0;
}

void send_all(int socket, const std::string& request) {
  for (std::size_t sent = 0; sent < request.size();) {
    const ssize_t part = send(socket, request.data() + sent, request.size() - sent, MSG_NOSIGNAL);
    if (part <= 0) fail("send");
    sent += static_cast<std::size_t>(part);
  }
}

double microseconds(const std::vector<std::int64_t>& sorted, double share) {
  if (sorted.empty()) return 0;
  return static_cast<double>(sorted[static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1))]) / 1e3;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 8) return 2;
  const int port = std::atoi(arguments[1]), connections = std::atoi(arguments[4]);
  const double seconds = std::atof(arguments[5]), rate = std::atof(arguments[6]);
  std::mt19937_64 random(std::strtoull(arguments[7], nullptr, 10));
  std::exponential_distribution<double> pause(rate > 0 ? rate : 1);
  std::vector<std::string> requests;
  std::ifstream bodies(arguments[3]);
  for (std::string body; std::getline(bodies, body);)
    requests.push_back(std::string("POST ") + arguments[2] +
                       " HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: " +
                       std::to_string(body.size()) + "\r\n\r\n" + body);
  if (requests.empty() || connections < 1 || seconds <= 0) return 2;
  prctl(PR_SET_TIMERSLACK, 1);  // else the kernel may wake us 50 us late

  const int poll = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  std::vector<Connection> all(static_cast<std::size_t>(connections));
  std::vector<Connection*> idle;
  const auto watch = [poll](int descriptor, void* what) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = what;
    if (epoll_ctl(poll, EPOLL_CTL_ADD, descriptor, &event) != 0) fail("epoll_ctl");
  };
  for (auto& one : all) {
    one.socket = connected(port);
    watch(one.socket, &one);
    idle.push_back(&one);
  }
  watch(timer, nullptr);

  const auto gap = [&] { return static_cast<std::int64_t>(pause(random) * double(second)); };
  const std::int64_t begin = now_ns(), end = begin + static_cast<std::int64_t>(seconds * double(second));
  const std::int64_t last = end + (end - begin);
  std::int64_t next = rate > 0 ? begin + gap() : begin, late = 0;
  std::deque<std::int64_t> waiting;
  std::vector<std::int64_t> taken;
  std::size_t turn = random() % requests.size(), due_count = 0, in_time = 0, refused = 0, busy = 0;
  std::vector<char> buffer(1 << 16);
  std::array<epoll_event, 64> events{};

  for (std::int64_t now = begin; now < last;) {
    if (rate > 0) {
      for (; next <= now && next < end; next += gap()) waiting.push_back(next), ++due_count;
    } else {
      for (std::size_t free = idle.size(); free > 0 && now < end; --free) waiting.push_back(now), ++due_count;
    }
    for (; !waiting.empty() && !idle.empty(); waiting.pop_front()) {
      Connection* one = idle.back();
      idle.pop_back();
      one->due = waiting.front();
      one->busy = true;
      late = std::max(late, now - one->due);
      send_all(one->socket, requests[turn]);
      turn = (turn + 1) % requests.size();
      ++busy;
    }
    if (busy == 0 && waiting.empty() && now >= end) break;
    const bool timed = rate > 0 && next < end;
    const std::int64_t until = timed ? next : last;
    itimerspec when{};
    when.it_value.tv_sec = until / second;
    when.it_value.tv_nsec = until % second;
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, nullptr);
    const int ready = epoll_wait(poll, events.data(), static_cast<int>(events.size()), -1);
    now = now_ns();
    for (int place = 0; place < ready; ++place) {
      auto* one = static_cast<Connection*>(events[static_cast<std::size_t>(place)].data.ptr);
      if (one == nullptr) {
        std::uint64_t times = 0;
        if (read(timer, &times, sizeof times) < 0 && errno != EAGAIN) fail("timer");
        continue;
      }
      const ssize_t part = recv(one->socket, buffer.data(), buffer.size(), 0);
      if (part <= 0) fail("the server closed a connection");
      one->got.append(buffer.data(), static_cast<std::size_t>(part));
      if (!one->busy || whole(one->got) == 0) continue;
      if (one->got.compare(9, 3, "200") == 0) {
        taken.push_back(now - one->due);
        in_time += now < end;
      } else {
        ++refused;
      }
      one->got.clear();
      one->busy = false;
      idle.push_back(one);
      --busy;
    }
  }
  const std::int64_t stopped = now_ns();
  const std::size_t answered = taken.size();
  for (const auto& one : all)
    if (one.busy) taken.push_back(stopped - one.due);
  for (const auto due : waiting) taken.push_back(stopped - due);
  std::sort(taken.begin(), taken.end());
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const double own = double(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                     double(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
  std::printf(
      "{\"due\": %zu, \"answered\": %zu, \"refused\": %zu, \"offered\": %.1f, \"rate\": %.1f, \"p50\": %.1f, "
      "\"p90\": %.1f, \"p99\": %.1f, \"longest\": %.1f, \"sent_late\": %.1f, \"client_cpu\": %.4f}\n",
      due_count, answered, refused, double(due_count) / seconds, double(in_time) / seconds, microseconds(taken, 0.5),
      microseconds(taken, 0.9), microseconds(taken, 0.99), microseconds(taken, 1), double(late) / 1e3, own);
  return 0;
}
