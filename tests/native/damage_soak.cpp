// Damages the image of a dead log, ring and segments, again and again, and recovers and reads it. For the sanitizers.
// Usage: damage_soak DIRECTORY TIMES SEED. Compiled and run by tests/faults/races.py; the exit code says what is wrong.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

#include "flush.hpp"
#include "recover.hpp"

namespace {

using namespace pairec;
namespace fs = std::filesystem;
using Bytes = std::vector<char>;
constexpr std::uint32_t records = 500;

Bytes payload_of(std::uint32_t number) {
  Bytes payload(4 + number * 7 % 900, static_cast<char>(number));
  std::memcpy(payload.data(), &number, sizeof(number));
  return payload;
}

Bytes read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

void write_file(const fs::path& path, const Bytes& bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

void leave(const std::string& directory) {
  Recovery recovery;
  const auto ring = open_ring(directory, "log", directory + "/ring", 64 << 10, 0, recovery);
  FlushOptions options = {};
  options.directory = directory;
  options.sink = "log";
  options.rotate_bytes = 1 << 17;
  options.rotate_ns = options.sync_ns = 60'000'000'000;
  Flusher flusher(*ring, options);
  for (std::uint32_t number = 0; number < records;) {
    const Bytes payload = payload_of(number);
    if (ring->push(payload.data(), payload.size()) == Push::ok) ++number;
    else flusher.flush(1'000'000'000);
  }
  flusher.stop(0);
}

void damage(Bytes& bytes, std::mt19937_64& random) {
  for (std::uint64_t wounds = 1 + random() % 4; wounds != 0 && !bytes.empty(); --wounds) {
    std::size_t at = random() % bytes.size();
    if (random() % 3 == 0) at = random() % std::min<std::size_t>(bytes.size(), 256);
    const std::size_t room = bytes.size() - at;
    switch (random() % 6) {
      case 0: bytes[at] ^= static_cast<char>(1 << random() % 8); break;
      case 1: std::fill_n(bytes.begin() + at / 512 * 512, std::min<std::size_t>(512, room), 0); break;
      case 2:
        for (std::size_t place = 0; place < std::min<std::size_t>(room, 1 + random() % 64); ++place)
          bytes[at + place] = static_cast<char>(random());
        break;
      case 3: {
        const std::uint64_t nasty[] = {0, 1, 15, ~0ull, 1ull << 31, 1ull << 32, 1ull << 63, random()};
        std::memcpy(bytes.data() + at, &nasty[random() % 8], std::min<std::size_t>(8, room));
        break;
      }
      case 4: {
        const std::size_t from = random() % bytes.size();
        std::memmove(bytes.data() + at, bytes.data() + from,
                     std::min({room, bytes.size() - from, std::size_t{1} << random() % 13}));
        break;
      }
      default:
        if (random() % 4 == 0) bytes.resize(at);
    }
  }
}

// 0, or what is wrong with what can be read.
int check(const std::string& directory, std::uint64_t& read) {
  DirectoryReader reader(directory, "log");
  for (Record record; reader.next(record); ++read) {
    if (is_gap(record.data, record.size)) continue;  // counters of a damaged ring page may tell of drops
    std::uint32_t number = records;
    if (record.size < sizeof(number)) return 3;
    std::memcpy(&number, record.data, sizeof(number));
    if (number >= records) return 4;
    const Bytes payload = payload_of(number);
    if (payload.size() != record.size || std::memcmp(payload.data(), record.data, record.size) != 0) return 5;
  }
  for (const auto& file : list_segments(directory, "log")) {
    const auto whole = open_segment(file);
    for (Record record; whole->next(record);) continue;
  }
  return 0;
}

}  // namespace

int main(int, char** arguments) {
  const fs::path root = arguments[1], image = root / "image", work = root / "work";
  std::mt19937_64 random(std::strtoull(arguments[3], nullptr, 10));
  fs::create_directories(image);
  leave(image);
  std::vector<std::pair<fs::path, Bytes>> files;
  for (const auto& entry : fs::directory_iterator(image)) files.emplace_back(entry.path().filename(), read_file(entry));
  if (files.size() < 3) return 2;
  std::uint64_t read = 0;
  for (long times = std::strtol(arguments[2], nullptr, 10); times > 0; --times) {
    fs::create_directories(work);
    const std::uint64_t which = random() % 3;  // the ring, the segments, all
    for (auto [name, bytes] : files) {
      const bool is_ring = name == "ring";
      if (which == 2 || (which == 0) == is_ring) damage(bytes, random);
      write_file(work / name, bytes);
    }
    if (const int code = check(work, read)) return code;
    adopt_ring(work, "log", work / "ring", 0);
    if (const int code = check(work, read)) return code;
    fs::remove_all(work);
  }
  std::printf("%llu records read\n", static_cast<unsigned long long>(read));
  return read == 0 ? 6 : 0;
}
