// Pieces of JSON as Go's encoder writes them, and what Go takes for a number. *Source*: PAIREC 0.2, 0.3.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace pairec::go_json {

// Whether `text` is UTF-8: no overlong forms, no surrogates, nothing beyond U+10FFFF.
bool is_utf8(std::string_view text) noexcept;

// Appends what stands between the quotes of a JSON text: control characters, quote and backslash escaped.
void append_text(std::string& out, std::string_view text);

// Appends what stands between the quotes of a Go JSON text (also `<>&`, U+2028 and U+2029 escaped), itself escaped once
// more: it is part of a JSON text that is a member of an object.
void append_nested_text(std::string& out, std::string_view text);

void append_integer(std::string& out, std::int64_t value);
void append_natural(std::string& out, std::uint64_t value);

// The fewest digits that read back the same; plain from 1e-6 to below 1e21, else with an exponent. False, and nothing
// is appended, for NaN and infinities.
bool append_double(std::string& out, double value);

// The double that `text` is by Go's grammar: decimal or hex floats, single underscores between digits, `inf`, `nan`; no
// blanks. False for anything else, and beyond the range of doubles. `scratch` is the caller's, to be used again.
bool number_of(std::string_view text, std::string& scratch, double& number);

}  // namespace pairec::go_json
