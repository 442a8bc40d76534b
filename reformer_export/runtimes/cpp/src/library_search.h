// Where shared libraries are searched.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace reformer {

// The folders of this library and of the program, and the folder lib beside each: files that belong
// together are installed together.
std::vector<std::filesystem::path> own_folders();

// The library `name` in a folder, or a release of it (name.1, name.1.31.1); empty if there is none.
std::filesystem::path library_in(const std::filesystem::path& folder, const std::string& name);

// "A, B or C".
std::string alternatives(const std::vector<std::filesystem::path>& folders);

}  // namespace reformer
