// Load for an HTTP/1.1 server on loopback from one thread: open loop (Poisson or even arrivals) or closed.
//
// Usage: load PORT SECONDS SEED CPU, then for each stream of requests
//        PATH BODIES RATE CONNECTIONS DEADLINE_US ARRIVALS MARK HEADERS OUT
//
//   CPU          the core to run on; -1 is any
//   BODIES       a file with one body a line, sent in turn
//   RATE         requests a second; 0: each connection sends its next request when it has its answer
//   DEADLINE_US  after which the client gives up: it closes the connection and opens another; 0 is never, but what then
//                has found no connection when the time is over is not sent
//   ARRIVALS     poisson or even
//   MARK         text whose presence in an answer's body is reported; empty is none
//   HEADERS      a file of further header lines, each ended by CR LF; empty is none
//   OUT          where the outcomes go: an array of struct Outcome
//
// Latency counts from when a request was due, however late it could be sent: a request that finds no free connection
// waits in the client, and its wait is the server's doing. Compiled and run by `bench/openloop.py`.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <strings.h>
#include <vector>

namespace {

constexpr std::int16_t kLate = -1;    // sent, and not answered within the deadline
constexpr std::int16_t kUnsent = -2;  // no connection was free within the deadline
constexpr std::int16_t kBroken = -3;  // the connection ended before the answer
constexpr std::int64_t kGraceNs = 3'000'000'000;  // for answers that are due when the time is over

struct Outcome {
  double due_s;  // since the start
  float us;      // from when it was due to the last byte of the answer, or to giving up
  std::int16_t status;
  std::int16_t marked;
};
static_assert(sizeof(Outcome) == 16);

std::int64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "load: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

std::string read_file(const char* path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct Stream;

struct Connection {
  Stream* stream = nullptr;
  int fd = -1;
  bool busy = false, writing = false;
  std::uint32_t serial = 0;  // which request is under way: a deadline of an earlier one means nothing
  std::int64_t due = 0;
  const std::string* request = nullptr;
  std::size_t sent = 0;
  std::string got;
};

struct Deadline {
  std::int64_t at;
  Connection* connection;
  std::uint32_t serial;
};

struct Stream {
  std::vector<std::string> requests;
  double rate = 0;
  std::int64_t deadline = 0;
  bool poisson = true;
  std::mt19937_64 dice;
  std::string mark, out;
  std::size_t turn = 0;
  std::int64_t next_due = 0;
  std::vector<std::unique_ptr<Connection>> connections;
  std::deque<Connection*> idle;
  std::deque<std::int64_t> waiting;  // when those were due that found no connection
  std::deque<Deadline> deadlines;
  std::vector<Outcome> outcomes;
  std::size_t busy = 0;
};

class Load {
 public:
  Load(int port, double seconds, unsigned seed) : port_(port), seconds_(seconds), seed_(seed), poll_(epoll_create1(0)) {
    if (poll_ < 0) fail("epoll_create1");
  }

  void add(char** arguments) {
    auto stream = std::make_unique<Stream>();
    stream->dice.seed(seed_ + streams_.size());  // arrivals are the same whatever comes beside
    const std::string path = arguments[0], bodies = read_file(arguments[1]);
    stream->rate = std::atof(arguments[2]);
    const int count = std::atoi(arguments[3]);
    stream->deadline = std::atoll(arguments[4]) * 1000;
    stream->poisson = std::strcmp(arguments[5], "even") != 0;
    stream->mark = arguments[6];
    const std::string headers = *arguments[7] ? read_file(arguments[7]) : "";
    stream->out = arguments[8];
    for (std::size_t at = 0; at < bodies.size();) {
      const std::size_t end = std::min(bodies.find('\n', at), bodies.size());
      const std::string body = bodies.substr(at, end - at);
      stream->requests.push_back("POST " + path + " HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n" +
                                 headers + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
      at = end + 1;
    }
    if (stream->requests.empty() || count <= 0) {
      std::fprintf(stderr, "load: a stream needs a body and a connection\n");
      std::exit(1);
    }
    stream->outcomes.reserve(static_cast<std::size_t>(stream->rate * seconds_ * 1.1) + 100'000);
    for (int i = 0; i < count; ++i) {
      stream->connections.push_back(std::make_unique<Connection>());
      Connection& one = *stream->connections.back();
      one.stream = stream.get();
      open(one);
      stream->idle.push_back(&one);
    }
    streams_.push_back(std::move(stream));
  }

  void run() {
    begin_ = now_ns();
    end_ = begin_ + static_cast<std::int64_t>(seconds_ * 1e9);
    for (auto& stream : streams_) stream->next_due = begin_ + gap(*stream);
    std::vector<epoll_event> events(1024);
    for (;;) {
      const std::int64_t now = now_ns();
      std::int64_t wake = now + 100'000'000;
      std::size_t busy = 0;
      for (auto& stream : streams_) {
        wake = std::min(wake, turn(*stream, now));
        busy += stream->busy + stream->waiting.size();
      }
      if (now >= end_ && (busy == 0 || now >= end_ + kGraceNs)) break;
      const std::int64_t left = std::max<std::int64_t>(0, wake - now);
      const timespec pause{left / 1'000'000'000, left % 1'000'000'000};
      const int ready = epoll_pwait2(poll_, events.data(), static_cast<int>(events.size()), &pause, nullptr);
      for (int i = 0; i < ready; ++i) {
        auto& one = *static_cast<Connection*>(events[i].data.ptr);
        if (events[i].events & EPOLLOUT) write(one);
        if (events[i].events & ~static_cast<std::uint32_t>(EPOLLOUT)) read(one);
      }
    }
    for (auto& stream : streams_) {
      for (auto& one : stream->connections) {
        if (one->busy) note(*stream, one->due, now_ns(), kLate, false);
      }
      for (std::int64_t due : stream->waiting) note(*stream, due, now_ns(), kUnsent, false);
      std::FILE* file = std::fopen(stream->out.c_str(), "wb");
      if (file == nullptr) fail(stream->out.c_str());
      std::fwrite(stream->outcomes.data(), sizeof(Outcome), stream->outcomes.size(), file);
      if (std::fclose(file) != 0) fail(stream->out.c_str());
    }
  }

 private:
  std::int64_t gap(Stream& stream) {
    if (stream.rate <= 0) return 0;
    const double even = 1e9 / stream.rate;
    return static_cast<std::int64_t>(stream.poisson ? std::exponential_distribution<>(1.0)(stream.dice) * even : even);
  }

  // Send what is due, give up what is late. Returns when to come back.
  std::int64_t turn(Stream& stream, std::int64_t now) {
    while (!stream.deadlines.empty() && stream.deadlines.front().at <= now) {
      const Deadline over = stream.deadlines.front();
      stream.deadlines.pop_front();
      Connection& one = *over.connection;
      if (one.busy && one.serial == over.serial) {
        done(one, now, kLate, false);
        reopen(one);
      }
    }
    if (stream.rate <= 0) {
      while (now < end_ && !stream.idle.empty()) send(stream, now, now);
      return stream.deadlines.empty() ? now + 100'000'000 : stream.deadlines.front().at;
    }
    while (stream.next_due <= now && stream.next_due < end_) {
      stream.waiting.push_back(stream.next_due);
      stream.next_due += gap(stream);
    }
    while (!stream.waiting.empty()) {
      const std::int64_t due = stream.waiting.front();
      if (stream.deadline > 0 ? due + stream.deadline <= now : now >= end_) {
        note(stream, due, now, kUnsent, false);
        stream.waiting.pop_front();
      } else if (!stream.idle.empty()) {
        stream.waiting.pop_front();
        send(stream, due, now);
      } else {
        break;
      }
    }
    std::int64_t wake = stream.next_due < end_ ? stream.next_due : std::max(end_, now + 1'000'000);
    if (!stream.deadlines.empty()) wake = std::min(wake, stream.deadlines.front().at);
    return wake;
  }

  void send(Stream& stream, std::int64_t due, std::int64_t now) {
    // The connection idle for longest: load spreads over all of them, and so over workers.
    Connection& one = *stream.idle.front();
    stream.idle.pop_front();
    one.busy = true;
    one.due = due;
    one.request = &stream.requests[stream.turn++ % stream.requests.size()];
    one.sent = 0;
    one.got.clear();
    ++one.serial;
    ++stream.busy;
    if (stream.deadline > 0) stream.deadlines.push_back({std::max(due + stream.deadline, now), &one, one.serial});
    write(one);
  }

  void write(Connection& one) {
    while (one.busy && one.sent < one.request->size()) {
      const ssize_t size =
          ::send(one.fd, one.request->data() + one.sent, one.request->size() - one.sent, MSG_NOSIGNAL);
      if (size < 0) {
        if (errno == EAGAIN || errno == ENOTCONN) return interest(one, true);
        done(one, now_ns(), kBroken, false);
        return reopen(one);
      }
      one.sent += static_cast<std::size_t>(size);
    }
    if (one.writing) interest(one, false);
  }

  void read(Connection& one) {
    char buffer[65536];
    const ssize_t size = ::recv(one.fd, buffer, sizeof buffer, 0);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) {
      if (one.busy) done(one, now_ns(), kBroken, false);
      return reopen(one);
    }
    if (!one.busy) return;
    one.got.append(buffer, static_cast<std::size_t>(size));
    const std::size_t head = one.got.find("\r\n\r\n");
    if (head == std::string::npos) return;
    std::size_t length = 0;
    bool close = false;
    for (std::size_t at = one.got.find("\r\n"); at < head; at = one.got.find("\r\n", at + 2)) {
      const char* line = one.got.c_str() + at + 2;
      if (strncasecmp(line, "content-length:", 15) == 0) length = std::strtoull(line + 15, nullptr, 10);
      if (strncasecmp(line, "connection: close", 17) == 0) close = true;
    }
    if (one.got.size() < head + 4 + length) return;
    const std::string& mark = one.stream->mark;
    const bool marked = !mark.empty() && memmem(one.got.data() + head, length + 4, mark.data(), mark.size()) != nullptr;
    done(one, now_ns(), static_cast<std::int16_t>(std::atoi(one.got.c_str() + 9)), marked);
    if (close) reopen(one);
  }

  void done(Connection& one, std::int64_t now, std::int16_t status, bool marked) {
    one.busy = false;
    --one.stream->busy;
    note(*one.stream, one.due, now, status, marked);
    one.stream->idle.push_back(&one);
  }

  void note(Stream& stream, std::int64_t due, std::int64_t now, std::int16_t status, bool marked) {
    stream.outcomes.push_back({static_cast<double>(due - begin_) * 1e-9, static_cast<float>(now - due) * 1e-3f, status,
                               static_cast<std::int16_t>(marked)});
  }

  void interest(Connection& one, bool out) {
    one.writing = out;
    epoll_event event{};
    event.events = EPOLLIN | (out ? EPOLLOUT : 0u);
    event.data.ptr = &one;
    if (epoll_ctl(poll_, EPOLL_CTL_MOD, one.fd, &event) < 0) fail("epoll_ctl");
  }

  void open(Connection& one) {
    one.fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (one.fd < 0) fail("socket");
    const int yes = 1;
    setsockopt(one.fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port_));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    // Never blocks: a full accept queue would hold up every other connection and read as the server's latency.
    if (connect(one.fd, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0 && errno != EINPROGRESS) fail("connect");
    one.writing = false;
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = &one;
    if (epoll_ctl(poll_, EPOLL_CTL_ADD, one.fd, &event) < 0) fail("epoll_ctl");
  }

  void reopen(Connection& one) {
    ::close(one.fd);
    open(one);
  }

  int port_;
  double seconds_;
  unsigned seed_;
  int poll_;
  std::int64_t begin_ = 0, end_ = 0;
  std::vector<std::unique_ptr<Stream>> streams_;
};

}  // namespace

int main(int count, char** arguments) {
  if (count < 14 || (count - 5) % 9 != 0) {
    std::fprintf(stderr, "usage: the first lines of load.cpp\n");
    return 2;
  }
  prctl(PR_SET_TIMERSLACK, 1000UL, 0, 0, 0);  // or every pause is 50 us too long
  const int cpu = std::atoi(arguments[4]);
  if (cpu >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0) fail("sched_setaffinity");
  }
  Load load(std::atoi(arguments[1]), std::atof(arguments[2]), static_cast<unsigned>(std::atoi(arguments[3])));
  for (int at = 5; at < count; at += 9) load.add(arguments + at);
  load.run();
}
