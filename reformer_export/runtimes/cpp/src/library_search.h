// Searches for shared libraries.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace reformer {

// The folders of this library and of the program, and for each its ../lib, because the libraries
// are installed together.
std::vector<std::filesystem::path> own_folders();

// The library `name` in a folder, else a versioned file of it (name.1, name.1.31.1); empty if there
// is none.
std::filesystem::path library_in(const std::filesystem::path& folder, const std::string& name);

// "A, B or C".
std::string alternatives(const std::vector<std::filesystem::path>& folders);

}  // namespace reformer
