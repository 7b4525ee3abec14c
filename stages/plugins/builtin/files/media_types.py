"""The Content-Type of files by their names, and how a name is written into Content-Disposition."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

UNKNOWN_TYPE: Final = "application/octet-stream"

_OFFICE: Final = "application/vnd.openxmlformats-officedocument"
_OPEN: Final = "application/vnd.oasis.opendocument"
_MORE: Final = """
3gp video/3gpp|7z application/x-7z-compressed|aac audio/aac|apk application/vnd.android.package-archive|apng image/apng
atom application/atom+xml|avif image/avif|avifs image/avif|bmp image/bmp|br application/x-brotli|bz2 application/x-bzip2
cjs text/javascript|conf text/plain|deb application/vnd.debian.binary-package|docx OFFICE.wordprocessingml.document
dmg application/x-apple-diskimage|eot application/vnd.ms-fontobject|epub application/epub+zip|flac audio/flac|geojson application/geo+json
glb model/gltf-binary|gltf model/gltf+json|gz application/gzip|heic image/heic|heif image/heif|ico image/x-icon|ics text/calendar
iso application/octet-stream|jar application/java-archive|js text/javascript|json application/json|json5 application/json5
jsonld application/ld+json|jxl image/jxl|log text/plain|m3u8 application/vnd.apple.mpegurl|m4a audio/mp4|m4v video/mp4
map application/json|markdown text/markdown|md text/markdown|mid audio/midi|midi audio/midi|mjs text/javascript|mka audio/x-matroska
mkv video/x-matroska|mp3 audio/mpeg|mp4 video/mp4|mpd application/dash+xml|msi application/octet-stream|odp OPEN.presentation
ods OPEN.spreadsheet|odt OPEN.text|oga audio/ogg|ogg audio/ogg|ogv video/ogg
opus audio/opus|otf font/otf|pem application/x-pem-file|pmtiles application/vnd.pmtiles|pptx OFFICE.presentationml.presentation
rar application/vnd.rar|rpm application/x-rpm|rss application/rss+xml|rtf application/rtf|srt application/x-subrip|svg image/svg+xml
svgz image/svg+xml|tgz application/gzip|toml application/toml|ttc font/collection|ttf font/ttf|txt text/plain|vtt text/vtt
wasm application/wasm|wav audio/wav|weba audio/webm|webm video/webm|webmanifest application/manifest+json|webp image/webp|woff font/woff
woff2 font/woff2|xhtml application/xhtml+xml|xlsx OFFICE.spreadsheetml.sheet|xml text/xml
xz application/x-xz|yaml application/yaml|yml application/yaml|z application/x-compress|zip application/zip|zst application/zstd
"""
"""What Python's table lacks or has otherwise than IANA and browsers; some of it depends on Python's version, too."""

TYPES: Final[Mapping[str, str]] = {
    **{ending[1:]: kind for ending, kind in mimetypes.MimeTypes(filenames=()).types_map[True].items()},
    **dict(pair.split(" ") for pair in _MORE.strip().replace("\n", "|").replace("OFFICE", _OFFICE).replace("OPEN", _OPEN).split("|")),
}
"""Ending, in lower case without its dot → type. Not what the machine has in /etc/mime.types: all machines answer alike."""


def type_of(name: bytes, types: Mapping[str, str] = TYPES) -> str:
    """By the last ending of a name; a name that has none is not known."""
    stem, dot, ending = name.rpartition(b".")
    return types.get(ending.decode("latin-1").lower(), UNKNOWN_TYPE) if dot and stem else UNKNOWN_TYPE


def attachment(name: bytes) -> str:
    """Content-Disposition of a file that is to be saved under its name (RFC 6266, RFC 8187).

    What old clients would take apart (quotes, backslashes, percent signs, all beyond ASCII) is `_` for them.
    """
    plain = "".join(chr(byte) if 0x20 <= byte < 0x7F and chr(byte) not in '"\\%' else "_" for byte in name)
    found = f'attachment; filename="{plain}"'
    if plain.encode() == name:
        return found
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return found
    return f"{found}; filename*=UTF-8''{quote(text, safe='!#$&+-.^_`|~')}"
