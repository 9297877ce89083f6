#include "protobuf.hpp"

#include <bit>
#include <cstring>

namespace pairec::protobuf {
namespace {

static_assert(std::endian::native == std::endian::little, "doubles are copied as they lie");

struct Field {
  std::uint32_t number = 0;
  unsigned type = 0;                    // 0 varint, 1 eight bytes, 2 a length and bytes, 5 four bytes
  const unsigned char* data = nullptr;  // of types 1, 2 and 5
  std::size_t size = 0;
  const unsigned char* next = nullptr;
};

bool read_varint(const unsigned char*& at, const unsigned char* end, std::uint64_t& value) noexcept {
  value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    if (at >= end) return false;
    const std::uint64_t byte = *at++;
    value |= (byte & 127) << shift;
    if (byte < 128) return true;
  }
  return false;
}

bool read_field(const unsigned char* at, const unsigned char* end, Field& field) noexcept {
  std::uint64_t key = 0;
  std::uint64_t size = 0;
  if (!read_varint(at, end, key)) return false;
  field.type = static_cast<unsigned>(key & 7);
  // A number beyond 29 bits is none that a message has; it must not be taken for one when it is cut to 32.
  field.number = key >> 3 < 1u << 29 ? static_cast<std::uint32_t>(key >> 3) : 0;
  field.size = 0;
  if (field.type == 0) {
    if (!read_varint(at, end, size)) return false;
    field.next = at;
    return true;
  }
  if (field.type == 2) {
    if (!read_varint(at, end, size)) return false;
  } else if (field.type == 1 || field.type == 5) {
    size = field.type == 1 ? 8 : 4;
  } else {
    return false;
  }
  if (size > static_cast<std::uint64_t>(end - at)) return false;
  field.data = at;
  field.size = static_cast<std::size_t>(size);
  field.next = at + size;
  return true;
}

// The two halves of an entry; of a half given twice the last. False when one of them is no text or message.
bool read_entry(const Field& entry, Field& key, Field& value) noexcept {
  if (entry.type != 2) return false;
  key.data = value.data = entry.data;
  key.size = value.size = 0;
  Field part;
  for (const unsigned char* at = entry.data; at < entry.data + entry.size; at = part.next) {
    if (!read_field(at, entry.data + entry.size, part)) return false;
    if (part.number != 1 && part.number != 2) continue;
    if (part.type != 2) return false;
    (part.number == 1 ? key : value) = part;
  }
  return true;
}

// Copies the doubles in field 1 of `message` to `out` unless it is null. Their number, or -1 when there is something else.
std::int64_t doubles_of(const Field& message, double* out) noexcept {
  std::int64_t count = 0;
  Field part;
  for (const unsigned char* at = message.data; at < message.data + message.size; at = part.next) {
    if (!read_field(at, message.data + message.size, part)) return -1;
    if (part.number != 1) continue;
    if ((part.type != 2 && part.type != 1) || part.size % 8 != 0) return -1;
    if (out != nullptr && part.size != 0) std::memcpy(out + count, part.data, part.size);
    count += static_cast<std::int64_t>(part.size / 8);
  }
  return count;
}

}  // namespace

bool measure(const unsigned char* message, std::size_t size, std::uint32_t field, Sizes& sizes) noexcept {
  sizes = {};
  const unsigned char* const end = message + size;
  Field one;
  Field key;
  Field value;
  for (const unsigned char* at = message; at < end; at = one.next) {
    if (!read_field(at, end, one)) return false;
    if (one.number != field) {
      sizes.rest += one.next - at;
      continue;
    }
    if (!read_entry(one, key, value)) return false;
    const std::int64_t count = doubles_of(value, nullptr);
    if (count < 0) return false;
    sizes.entries += 1;
    sizes.doubles += count;
  }
  return true;
}

void extract(const unsigned char* message, std::size_t size, std::uint32_t field, std::int64_t* key, double* value,
             std::int64_t* end, unsigned char* rest) noexcept {
  const unsigned char* const last = message + size;
  std::int64_t entries = 0;
  std::int64_t doubles = 0;
  Field one;
  Field name;
  Field scores;
  for (const unsigned char* at = message; at < last; at = one.next) {
    read_field(at, last, one);
    if (one.number != field) {
      std::memcpy(rest, at, static_cast<std::size_t>(one.next - at));
      rest += one.next - at;
      continue;
    }
    read_entry(one, name, scores);
    key[2 * entries] = name.data - message;
    key[2 * entries + 1] = static_cast<std::int64_t>(name.size);
    doubles += doubles_of(scores, value + doubles);
    end[entries] = doubles;
    entries += 1;
  }
}

}  // namespace pairec::protobuf
