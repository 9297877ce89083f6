// Writing msgpack as msgspec does: every head in its shortest form. `Out` is a std::string, or `Bytes`.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>

namespace pairec::msgpack {

// What is written into memory that is known to be enough: nothing is checked.
class Bytes {
 public:
  // Begins anew, with room for `capacity` bytes.
  void begin(std::size_t capacity) {
    data_ = std::make_unique_for_overwrite<char[]>(capacity + slack);
    size_ = 0;
  }

  std::size_t size() const noexcept { return size_; }
  const char* data() const noexcept { return data_.get(); }
  char& operator[](std::size_t at) noexcept { return data_[at]; }
  char operator[](std::size_t at) const noexcept { return data_[at]; }

  void operator+=(char byte) noexcept { data_[size_++] = byte; }
  void append(std::string_view text) noexcept {
    std::memcpy(data_.get() + size_, text.data(), text.size());
    size_ += text.size();
  }
  // The same of a text behind which as many bytes may be read as `slack`: most are short, and copied in one move.
  void append_loosely(std::string_view text) noexcept {
    if (text.size() > slack) return append(text);
    std::memcpy(data_.get() + size_, text.data(), slack);
    size_ += text.size();
  }
  void cut(std::size_t size) noexcept { size_ = size; }
  void erase(std::size_t at, std::size_t count) noexcept {
    std::memmove(data_.get() + at, data_.get() + at + count, size_ - at - count);
    size_ -= count;
  }
  // `count` bytes between others, to be written.
  void open(std::size_t at, std::size_t count) noexcept {
    std::memmove(data_.get() + at + count, data_.get() + at, size_ - at);
    size_ += count;
  }

  static constexpr std::size_t slack = 32;

 private:
  std::unique_ptr<char[]> data_;
  std::size_t size_ = 0;
};

template <class Out>
void append_big_endian(Out& out, std::uint64_t value, int bytes) {
  for (int shift = (bytes - 1) * 8; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift);
}

// A head whose short form `tag` holds up to `most`, else one of the tags behind it. `tag8` 0: there is none of a byte.
template <class Out>
void append_head(Out& out, std::size_t size, int tag, std::size_t most, int tag8, int tag16) {
  if (size <= most) {
    out += static_cast<char>(tag | size);
  } else if (tag8 != 0 && size < 1u << 8) {
    out += static_cast<char>(tag8);
    append_big_endian(out, size, 1);
  } else if (size < 1u << 16) {
    out += static_cast<char>(tag16);
    append_big_endian(out, size, 2);
  } else {
    out += static_cast<char>(tag16 + 1);
    append_big_endian(out, size, 4);
  }
}

template <class Out>
void append_text_head(Out& out, std::size_t size) {
  append_head(out, size, 0xa0, 31, 0xd9, 0xda);
}

template <class Out>
void append_text(Out& out, std::string_view text) {
  append_text_head(out, text.size());
  out.append(text);
}

template <class Out>
void append_list_head(Out& out, std::size_t size) {
  append_head(out, size, 0x90, 15, 0, 0xdc);
}

template <class Out>
void append_map_head(Out& out, std::size_t size) {
  append_head(out, size, 0x80, 15, 0, 0xde);
}

template <class Out>
void append_natural(Out& out, std::uint64_t value) {
  if (value < 1u << 7) {
    out += static_cast<char>(value);
    return;
  }
  const int power = value < 1u << 8 ? 0 : value < 1u << 16 ? 1 : value < std::uint64_t{1} << 32 ? 2 : 3;
  out += static_cast<char>(0xcc + power);
  append_big_endian(out, value, 1 << power);
}

template <class Out>
void append_integer(Out& out, std::int64_t value) {
  if (value >= 0) return append_natural(out, static_cast<std::uint64_t>(value));
  if (value >= -32) {
    out += static_cast<char>(value);
    return;
  }
  const int power = value >= -(1 << 7) ? 0 : value >= -(1 << 15) ? 1 : value >= -(std::int64_t{1} << 31) ? 2 : 3;
  out += static_cast<char>(0xd0 + power);
  append_big_endian(out, static_cast<std::uint64_t>(value), 1 << power);
}

template <class Out>
void append_double(Out& out, double value) {
  out += '\xcb';
  append_big_endian(out, std::bit_cast<std::uint64_t>(value), 8);
}

}  // namespace pairec::msgpack
