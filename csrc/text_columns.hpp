// Columns out of the texts that a store holds, one a row: pairs `name:value`, or a JSON object.
//
// What is read is pointed at, not copied: the texts must stay where they are as long as the columns are asked.
#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace pairec {

// A value that a column has in other rows too, perhaps.
struct Word {
  enum Kind : std::uint8_t { text, json, number };
  Kind kind;
  std::string_view bytes;  // of a text, in UTF-8, or of JSON
  double value;            // of a number
  bool operator==(const Word& other) const noexcept;
};

struct WordHash {
  std::size_t operator()(const Word& word) const noexcept;
};

struct TextColumn {
  static constexpr std::int32_t missing = -1, a_number = -2;
  std::string_view name;
  std::vector<double> numbers;      // of each row; NaN where there is none
  std::vector<std::int32_t> codes;  // of each row, into `words`
  std::vector<Word> words;          // each once, but for lists and objects
  std::unordered_map<Word, std::int32_t, WordHash> known;
};

class TextColumns {
 public:
  // Of the names that the texts have, the first `most` become columns.
  TextColumns(std::int32_t rows, std::size_t most) : rows_(rows), most_(most) {}

  // Pairs with `delimiter` between, which is not empty, each of exactly one colon. Of a name that is there twice the
  // last counts. A value that Go's ParseFloat takes is a double.
  void read_pairs(std::int32_t row, std::string_view text, std::string_view delimiter);

  // A JSON object, or `null`, which has nothing. Numbers are doubles; an integer that no double holds stays JSON, as do
  // lists, objects, true, false and null. False: it is none, or no ordinary one, and nothing of it is kept.
  bool read_object(std::int32_t row, std::string_view text);

  // Leaves out columns without a value and words without a row, and puts the words in the order of the rows. In a
  // column with words its numbers are words too.
  void settle();

  std::size_t names() const noexcept { return places_.size(); }
  std::vector<TextColumn>& columns() noexcept { return columns_; }

 private:
  TextColumn* column(std::string_view name, std::size_t guess);
  void put_number(TextColumn* column, std::int32_t row, double value);
  void put_word(TextColumn* column, std::int32_t row, Word word, bool repeats = true);
  void put_value(TextColumn* column, std::int32_t row, std::string_view value);

  bool read_members(std::int32_t row);
  bool read_member(std::int32_t row, std::size_t guess);
  bool read_text(std::string_view& text);
  bool read_number(std::string_view& digits, double& value, bool& exact);
  bool copy_nested(std::string& out, int depth);
  char next() noexcept;
  bool take(std::string_view word) noexcept;

  std::int32_t rows_;
  std::size_t most_;
  std::vector<TextColumn> columns_;
  std::unordered_map<std::string_view, std::size_t> places_;  // of a name in `columns_`, or not there
  std::deque<std::string> own_;                               // what does not stand in a text as it is
  const char* at_ = nullptr;
  const char* end_ = nullptr;
};

// Appends the numbers of a vector written as `{a,b}` or `a,b`; what Go's ParseFloat does not take is 0.
void read_vector(std::string_view text, std::string_view separator, std::vector<float>& numbers);

}  // namespace pairec
