import re
from pathlib import Path

from conan import ConanFile
from conan.errors import ConanInvalidConfiguration
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy
from conan.tools.scm import Version

required_conan_version = ">=2.0"


class Aiocxx(ConanFile):
    """Run in a checkout: conan create packaging/conan"""

    name = "aiocxx"
    description = "asyncio for C++20"
    license = "MIT"
    package_type = "library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"shared": [True, False], "fPIC": [True, False], "tls": [True, False],
               "sql": [True, False], "jetstream": [True, False]}
    # aio::http and the backend on io_uring take libwslay and liburing from the system: the recipe leaves them out.
    default_options = {"shared": False, "fPIC": True, "tls": True, "sql": False, "jetstream": False}
    implements = ["auto_shared_fpic"]

    def set_version(self):
        text = (Path(self.recipe_folder) / "../../CMakeLists.txt").read_text()
        self.version = re.search(r"project\(aiocxx VERSION ([0-9.]+)", text).group(1)

    def export_sources(self):
        root = Path(self.recipe_folder) / "../.."
        for pattern in ("CMakeLists.txt", "LICENSE", "cmake/*", "include/*", "src/*", ".ci/coding_rules.pl"):
            copy(self, pattern, root, self.export_sources_folder)

    def layout(self):
        cmake_layout(self)

    def validate(self):
        if self.settings.os != "Linux":
            raise ConanInvalidConfiguration("aiocxx runs on Linux only")
        check_min_cppstd(self, 20)
        version = Version(str(self.settings.compiler.version))
        if self.settings.compiler == "gcc" and version < 13:
            raise ConanInvalidConfiguration("aiocxx needs g++ 13 or later, or clang 16 or later")
        if self.settings.compiler == "clang" and version < 16:
            raise ConanInvalidConfiguration("aiocxx needs clang 16 or later, or g++ 13 or later")

    def requirements(self):
        if self.options.tls:
            self.requires("openssl/[>=3.0 <4]")
        if self.options.sql:
            self.requires("libpq/[>=14]")
            self.requires("sqlite3/[>=3.40]")
        if self.options.jetstream:
            self.requires("nlohmann_json/[>=3.11]")

    def generate(self):
        CMakeDeps(self).generate()
        toolchain = CMakeToolchain(self)
        for part in ("tls", "sql", "jetstream"):
            toolchain.cache_variables["AIO_" + part.upper()] = bool(self.options.get_safe(part))
        for part in ("HTTP", "IO_URING", "BUILD_TESTS", "BUILD_EXAMPLES", "BUILD_BENCH"):
            toolchain.cache_variables["AIO_" + part] = False
        toolchain.generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        copy(self, "LICENSE", self.source_folder, Path(self.package_folder) / "licenses")
        CMake(self).install()

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "aiocxx")
        core = self.cpp_info.components["core"]
        core.set_property("cmake_target_name", "aio::core")
        core.set_property("pkg_config_name", "aiocxx")
        core.libs = ["aiocxx"]
        core.system_libs = ["pthread"]
        if self.options.tls:
            core.requires.append("openssl::ssl")
        if self.options.sql:
            sql = self.cpp_info.components["sql"]
            sql.set_property("cmake_target_name", "aio::sql")
            sql.set_property("pkg_config_name", "aiocxx-sql")
            sql.libs = ["aiocxx_sql"]
            sql.requires = ["core", "libpq::libpq", "sqlite3::sqlite3"] + (["openssl::ssl"] if self.options.tls else [])
        if self.options.jetstream:
            jetstream = self.cpp_info.components["jetstream"]
            jetstream.set_property("cmake_target_name", "aio::jetstream")
            jetstream.set_property("pkg_config_name", "aiocxx-jetstream")
            jetstream.libs = ["aiocxx_jetstream"]
            jetstream.requires = ["core", "nlohmann_json::nlohmann_json"]
            if self.options.tls:
                jetstream.requires.append("openssl::crypto")
