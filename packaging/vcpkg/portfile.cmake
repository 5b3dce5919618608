# The port takes the source that AIOCXX_SOURCE names: an unpacked archive of `./dev package --archive`, or a checkout.
if(NOT DEFINED ENV{AIOCXX_SOURCE})
    message(FATAL_ERROR "Set AIOCXX_SOURCE to the unpacked source of aiocxx ${VERSION}, and name it in VCPKG_KEEP_ENV_VARS.")
endif()
set(SOURCE_PATH "$ENV{AIOCXX_SOURCE}")

vcpkg_check_features(OUT_FEATURE_OPTIONS feature_options
    FEATURES
        io-uring AIO_IO_URING
        tls AIO_TLS
        http AIO_HTTP
        sql AIO_SQL
        jetstream AIO_JETSTREAM)
vcpkg_cmake_configure(
    SOURCE_PATH "${SOURCE_PATH}"
    OPTIONS ${feature_options} -DAIO_BUILD_TESTS=OFF -DAIO_BUILD_EXAMPLES=OFF -DAIO_BUILD_BENCH=OFF)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(PACKAGE_NAME aiocxx CONFIG_PATH lib/cmake/aiocxx)
vcpkg_fixup_pkgconfig()
file(MAKE_DIRECTORY "${CURRENT_PACKAGES_DIR}/tools/${PORT}")
file(RENAME "${CURRENT_PACKAGES_DIR}/bin/aiocxx-check" "${CURRENT_PACKAGES_DIR}/tools/${PORT}/aiocxx-check")
file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/bin" "${CURRENT_PACKAGES_DIR}/debug/bin" "${CURRENT_PACKAGES_DIR}/debug/include")
file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
