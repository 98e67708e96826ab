"""Encodings that Armv8.1-M adds to Thumb: Helium (MVE), low-overhead loops, conditional selects.

A row of the table is a mnemonic, 32 bits (``-``: either), operands, and the pipe with the cycles
after which another instruction can use the result: ``C`` core, ``P`` predication, ``L`` memory,
``I`` integer, ``M`` multiply and floating point, ``E`` either of these two. The first row that fits
decides. In a mnemonic ``{5||a}`` is chosen by a bit, ``{6:5|0|1|2|3}`` by two, the lowest value
first; names in braces are in :data:`CHOICES`.

Encodings: "Arm v8-M Architecture Reference Manual" (DDI 0553), C2.4; found again by assembling
every mnemonic with many operands. Pipes and latencies are those of LLVM's scheduling model of the
Cortex-M55 (``ARMScheduleM55.td``), as Arm publishes no table of them. They count from a result's
first 64 bits to the use of the same 64 bits: dependent vector instructions follow each other half
by half.

Operands, by the field that names the register: vectors ``d`` 15:13, ``n`` 19:17, ``m`` 3:1; core
registers ``s`` 3:0, ``t`` 15:12, ``u`` 19:16, ``v`` 18:16, ``c`` 11:8; even ones ``e`` 19:17 and
``l`` 15:13; odd ones ``o`` 3:1, ``h`` 22:20 and ``y`` 11:9. Behind the letter stand how many follow
each other, where it is not one, and the way: ``<`` read, ``>`` written, ``*`` both; ``]`` forms an
address.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

Pipe = Literal["core", "control", "memory", "integer", "multiply", "either"]


class Row(NamedTuple):
    """One encoding; see the module's text.

    Attributes:
        mnemonic: with choices by bits; names are resolved.
        mask: bits that the encoding fixes.
        value: of those bits.
        operands: fields and ways.
        pipe: that the instruction occupies.
        latency: cycles until another one can use its result.
    """

    mnemonic: str
    mask: int
    value: int
    operands: str
    pipe: Pipe
    latency: int


PIPES: Final[dict[str, Pipe]] = {
    "C": "core",
    "P": "control",
    "L": "memory",
    "I": "integer",
    "M": "multiply",
    "E": "either",
}

CHOICES: Final = {
    "type": "{28|s|u}{21:20|8|16|32|64}",
    "type19": "{28|s|u}{19:18|8|16|32|64}",
    "type16": "{28|s|u}{16|16|32}",
    "size": "{21:20|8|16|32|64}",
    "size19": "{19:18|8|16|32|64}",
    "size8": "{8:7|8|16|32|64}",
    "float": "{28|32|16}",
    "float20": "{20|32|16}",
    "wide": "{28|16|32}",
    "half": "{12|b|t}",
    "x": "{12||x}",
    "sum": "{12|add|sub}",
}

_TABLE = """
# Loops, and predication by a count of elements.
lctp                                        11110000 00001111 11100000 00000001              C1
letp                                        11110000 00011111 1100---- -------1              C1
le                                          11110000 00-01111 1100---- -------1              C1
wls                                         11110000 0100---- 1100---- -------1  u<          C1
wlstp.{size}                                11110000 00------ 1100---- -------1  u<          C1
dls                                         11110000 0100---- 11100000 00000001  u<          C1
dlstp.{size}                                11110000 00------ 11100000 00000001  u<          C1
vctp.{size}                                 11110000 00------ 11101000 00000001  u<          P1
# Core registers: selects, saturating and 64-bit shifts.
{5:4|uqshl|urshr|srshr|sqshl}               11101010 0101---- 0---1111 ----1111  u*          C2
{5|uqrshl|sqrshr}                           11101010 0101---- ----1111 00-01101  u* t<       C2
{5:4|lsll|lsrl|asrl|}                       11101010 0101---0 0------1 ----1111  e* y*       C2
{5:4|uqshll|urshrl|srshrl|sqshll}           11101010 0101---1 0------1 ----1111  e* y*       C2
{5|lsll|asrl}                               11101010 0101---0 -------1 00-01101  e* y* t<    C2
{5|uqrshll|sqrshrl}                         11101010 0101---1 -------1 -0-01101  e* y* t<    C2
{13:12|csel|csinc|csinv|csneg}              11101010 0101---- 10------ --------  c> u< s<    C1
clrm                                        11101000 10011111 --0----- --------              C2
vscclrm                                     11101100 1-011111 ----101- --------              C2
# Predication.
vpst                                        11111110 -111---1 ---01111 01001101              P1
vpnot                                       11111110 00110001 00001111 01001101              P1
vpsel                                       11111110 0011---1 ---01111 0000---1  d> n< m<    I1
vcmp.f{float}                               111-1110 0011---1 000-1111 -1-0----  n< s<       M1
vcmp.f{float}                               111-1110 0011---1 000-1111 -000----  n< m<       M1
vcmp.{size}                                 11111110 00-----1 000-1111 -1-0----  n< s<       M1
vcmp.{size}                                 11111110 00-----1 000-1111 -000----  n< m<       M1
vpt.f{float}                                111-1110 0-11---1 ----1111 -1-0----  n< s<       M1
vpt.f{float}                                111-1110 0-11---1 ----1111 -000----  n< m<       M1
vpt.{size}                                  11111110 0------1 ----1111 -1-0----  n< s<       M1
vpt.{size}                                  11111110 0------1 ----1111 -000----  n< m<       M1
# Vector with vector, encoded as in Advanced SIMD.
vadd.i{size}                                11101111 00-----0 ---01000 01-0---0  d> n< m<    I1
vsub.i{size}                                11111111 00-----0 ---01000 01-0---0  d> n< m<    I1
v{8||r}hadd.{type}                          111-1111 00-----0 ---0000- 01-0---0  d> n< m<    I1
vhsub.{type}                                111-1111 00-----0 ---00010 01-0---0  d> n< m<    I1
vq{9|add|sub}.{type}                        111-1111 00-----0 ---000-0 01-1---0  d> n< m<    I1
v{4|max|min}.{type}                         111-1111 00-----0 ---00110 01-----0  d> n< m<    I1
vabd.{type}                                 111-1111 00-----0 ---00111 01-0---0  d> n< m<    I1
v{21:20|and|bic|orr|orn}                    11101111 00-----0 ---00001 01-1---0  d> n< m<    I1
veor                                        11111111 0000---0 ---00001 01-1---0  d> n< m<    I1
vshl.{type}                                 111-1111 00-----0 ---00100 01-0---0  d> n< m<    I1
vqshl.{type}                                111-1111 00-----0 ---00100 01-1---0  d> n< m<    I2
v{4||q}rshl.{type}                          111-1111 00-----0 ---00101 01-----0  d> n< m<    I2
vmul.i{size}                                11101111 00-----0 ---01001 01-1---0  d> n< m<    M2
vq{28||r}dmulh.s{size}                      111-1111 00-----0 ---01011 01-0---0  d> n< m<    M2
v{21|add|sub}.f{float20}                    11101111 00-----0 ---01101 01-0---0  d> n< m<    M1
vabd.f{float20}                             11111111 001----0 ---01101 01-0---0  d> n< m<    M1
vmul.f{float20}                             11111111 000----0 ---01101 01-1---0  d> n< m<    M2
v{21|max|min}nm.f{float20}                  11111111 00-----0 ---01111 01-1---0  d> n< m<    M1
vfm{21|a|s}.f{float20}                      11101111 00-----0 ---01100 01-1---0  d* n< m<    M2
vcmla.f{20|16|32}                           1111110- -01----0 ---01000 01-0---0  d* n< m<    M2
vcadd.f{20|16|32}                           1111110- 100----0 ---01000 01-0---0  d> n< m<    M1
# One vector, encoded as in Advanced SIMD.
v{7|abs|neg}.f{size19}                      11111111 1011--01 ---00111 -1-0---0  d> m<       M1
v{7|abs|neg}.s{size19}                      11111111 1011--01 ---00011 -1-0---0  d> m<       I1
vq{7|abs|neg}.s{size19}                     11111111 1011--00 ---00111 -1-0---0  d> m<       I1
v{7|cls.s|clz.i}{size19}                    11111111 1011--00 ---00100 -1-0---0  d> m<       I1
vmvn                                        11111111 10110000 ---00101 11-0---0  d> m<       I1
vrev{7|64|32}.{size19}                      11111111 1011--00 ---00000 -1-0---0  d> m<       I1
vrev16.8                                    11111111 10110000 ---00001 01-0---0  d> m<       I1
vrint{9:7|n|x|a|z||m||p}.f{size19}          11111111 1011--10 ---001-- -1-0---0  d> m<       M2
vcvt{9:8|a|n|p|m}                           11111111 1011--11 ---000-- -1-0---0  d> m<       M2
vcvt                                        11111111 1011--11 ---0011- -1-0---0  d> m<       M2
vcvt                                        111-1111 1-1----- ---011-- 01-1---0  d> m<       M2
# Constants and shifts by constants, encoded as in Advanced SIMD.
vmov.f32                                    111-1111 1-000--- ---01111 01-1----  d>          M2
vmov.{9||i8}                                111-1111 1-000--- ---01110 01-1----  d>          M2
vmov                                        111-1111 1-000--- ---0110- 0101----  d>          M2
vmvn                                        111-1111 1-000--- ---0110- 0111----  d>          I1
v{5|orr|bic}                                111-1111 1-000--- ---00--1 01-1----  d*          I1
v{5|orr|bic}                                111-1111 1-000--- ---010-1 01-1----  d*          I1
vmov                                        111-1111 1-000--- ---00--0 0101----  d>          M2
vmvn                                        111-1111 1-000--- ---00--0 0111----  d>          I1
vmov                                        111-1111 1-000--- ---010-0 0101----  d>          M2
vmvn                                        111-1111 1-000--- ---010-0 0111----  d>          I1
vshr                                        111-1111 1------- ---00000 01-1---0  d> m<       I1
vrshr                                       111-1111 1------- ---00010 01-1---0  d> m<       I2
vsri                                        11111111 1------- ---00100 01-1---0  d* m<       I1
vsli                                        11111111 1------- ---00101 01-1---0  d* m<       I1
vshl                                        11101111 1------- ---00101 01-1---0  d> m<       I1
vqshlu                                      11111111 1------- ---00110 01-1---0  d> m<       I2
vqshl                                       111-1111 1------- ---00111 01-1---0  d> m<       I2
# Vector with a core register.
v{sum}.f{float}                             111-1110 0011---0 ----1111 0100----  d> n< s<    M2
vqdmull{half}.s{wide}                       111-1110 0011---0 ----1111 0110----  d> n< s<    M2
vh{sum}.{type}                              111-1110 00-----0 ----1111 0100----  d> n< s<    I1
vq{sum}.{type}                              111-1110 00-----0 ----1111 0110----  d> n< s<    I1
v{12|i|d}dup.u{size}                        11101110 00-----1 ----1111 -110111-  d> e*       I1
v{12|i|d}wdup.u{size}                       11101110 00-----1 ----1111 -110----  d> e* o<    I1
v{sum}.i{size}                              11101110 00-----1 ----1111 0100----  d> n< s<    I1
vshl.{type19}                               111-1110 0011--01 ---11110 0110----  d* s<       I1
vqshl.{type19}                              111-1110 0011--01 ---11110 1110----  d* s<       I2
v{7||q}rshl.{type19}                        111-1110 0011--11 ---11110 -110----  d* s<       I2
vmul.f{float}                               111-1110 0011---1 ---01110 0110----  d> n< s<    M2
vq{28||r}dmulh.s{size}                      111-1110 00-----1 ---01110 0110----  d> n< s<    M2
vmul.i{size}                                11101110 00-----1 ---11110 0110----  d> n< s<    M2
vbrsr.{size}                                11111110 00-----1 ---11110 0110----  d> n< s<    I1
vfma{12||s}.f{float}                        111-1110 0011---1 ----1110 0100----  d* n< s<    M2
vmla{12||s}.{type}                          111-1110 00-----1 ----1110 0100----  d* n< s<    M2
vq{5|r|}dmla{12|h|sh}.s{size}               11101110 00-----0 ----1110 01-0----  d* n< s<    M2
# Narrowing and widening; these and the products below share bits 21:20 = 3.
vcvt{half}.f16.f32                          11101110 00111111 ----1110 0000---1  d* m<       M3
vcvt{half}.f32.f16                          11111110 00111111 ----1110 0000---1  d> m<       M2
vshll{half}.{28|s|u}{18|8|16}               111-1110 00110-01 ----1110 0000---1  d> m<       I1
vqmovn{half}.{28|s|u}{18|16|32}             111-1110 00110-11 ----1110 0000---1  d* m<       I3
vmovn{half}.i{18|16|32}                     11111110 00110-01 ----1110 1000---1  d* m<       I3
vqmovun{half}.s{18|16|32}                   11101110 00110-01 ----1110 1000---1  d* m<       I3
v{12|max|min}nma.f{float}                   111-1110 00111111 ----1110 1000---1  d* m<       M1
v{12|max|min}a.s{size19}                    11101110 0011--11 ----1110 1000---1  d* m<       I1
vmovl{half}.{28|s|u}8                       111-1110 10101000 ----1111 0100---0  d> m<       I1
vmovl{half}.{28|s|u}16                      111-1110 10110000 ----1111 0100---0  d> m<       I1
vshll{half}                                 111-1110 101----- ----1111 0100---0  d> m<       I1
vshlc                                       11101110 101----- ---01111 1100----  d* s*       I1
v{28||r}shrn{half}                          111-1110 100----- ----1111 1100---1  d* m<       I3
vq{0||r}shrn{half}                          111-1110 100----- ----1111 0100----  d* m<       I3
vq{28||r}shrun{half}                        111-1110 100----- ----1111 1100---0  d* m<       I3
# Vector with vector.
vcmul.f{wide}                               111-1110 0011---0 ----1110 0000----  d> n< m<    M2
vqdmull{half}.s{wide}                       111-1110 0011---0 ----1111 0000---1  d> n< m<    M2
v{28|ad|sb}c{12||i}.i32                     111-1110 0011---0 ----1111 0000---0  d> n< m<    I2
v{28|h|}cadd.{28|s|i}{size}                 111-1110 00-----0 ----1111 0000---0  d> n< m<    I1
vq{0||r}dml{28|a|s}dh{x}.s{size}            111-1110 00-----0 ----1110 0000----  d* n< m<    M2
v{12||r}mulh.{type}                         111-1110 00-----1 ----1110 0000---1  d> n< m<    M2
vmull{half}.p{28|8|16}                      111-1110 0011---1 ----1110 0000---0  d> n< m<    I2
vmull{half}.{type}                          111-1110 00-----1 ----1110 0000---0  d> n< m<    M2
# Over the lanes of a vector, into core registers.
v{7|max|min}nm{17|a|}v.f{float}             111-1110 111011-0 ----1111 -000---0  t* m<       M1
v{7|max|min}{17|a|}v.{28|s|u}8              111-1110 111000-0 ----1111 -000---0  t* m<       I4
v{7|max|min}{17|a|}v.{28|s|u}16             111-1110 111001-0 ----1111 -000---0  t* m<       I3
v{7|max|min}{17|a|}v.{28|s|u}32             111-1110 111010-0 ----1111 -000---0  t* m<       I2
vabav.{type}                                111-1110 10-----0 ----1111 0000---1  t* n< m<    I3
vaddv.{type19}                              111-1110 1111--01 ---01111 0000---0  l> m<       M2
vaddva.{type19}                             111-1110 1111--01 ---01111 0010---0  l* m<       M2
vmladav{x}.{28|s|u}8                        111-1110 1111---0 ----1111 0000---0  l> n< m<    M2
vmladava{x}.{28|s|u}8                       111-1110 1111---0 ----1111 0010---0  l* n< m<    M2
vmladav{x}.{type16}                         111-1110 1111---- ----1110 0000---0  l> n< m<    M2
vmladava{x}.{type16}                        111-1110 1111---- ----1110 0010---0  l* n< m<    M2
vmlsdav{x}.s8                               11111110 1111---0 ----1110 0000---1  l> n< m<    M2
vmlsdava{x}.s8                              11111110 1111---0 ----1110 0010---1  l* n< m<    M2
vmlsdav{x}.s{16|16|32}                      11101110 1111---- ----1110 0000---1  l> n< m<    M2
vmlsdava{x}.s{16|16|32}                     11101110 1111---- ----1110 0010---1  l* n< m<    M2
vaddlv.{28|s|u}32                           111-1110 1---1001 ---01111 0000---0  l> h> m<    M2
vaddlva.{28|s|u}32                          111-1110 1---1001 ---01111 0010---0  l* h* m<    M2
vrmlaldavh{x}.{28|s|u}32                    111-1110 1------0 ----1111 0000---0  l> h> n< m<  M2
vrmlaldavha{x}.{28|s|u}32                   111-1110 1------0 ----1111 0010---0  l* h* n< m<  M2
vrmlsldavh{x}.s32                           11111110 1------0 ----1110 0000---1  l> h> n< m<  M2
vrmlsldavha{x}.s32                          11111110 1------0 ----1110 0010---1  l* h* n< m<  M2
vmlaldav{x}.{type16}                        111-1110 1------- ----1110 0000---0  l> h> n< m<  M2
vmlaldava{x}.{type16}                       111-1110 1------- ----1110 0010---0  l* h* n< m<  M2
vmlsldav{x}.s{16|16|32}                     11101110 1------- ----1110 0000---1  l> h> n< m<  M2
vmlsldava{x}.s{16|16|32}                    11101110 1------- ----1110 0010---1  l* h* n< m<  M2
# Between vectors and core registers.
vdup.{22|{5|32|16}|8}                       11101110 1-10---0 ----1011 00-10000  n> t<       I1
vmov                                        11101110 0--0---- ----1011 0--10000  n* t<       E1
vmov                                        11101110 ---1---- ----1011 0--10000  t> n<       M1
vmov                                        11101100 0001---- ---01111 000-----  d* s< u<    E1
vmov                                        11101100 0000---- ---01111 000-----  s> u> d<    M1
# Memory: whole vectors, widened or narrowed ones, lanes at addresses, interleaved ones.
vldr{8:7|b.8|h.16|w.32|}                    11101101 --01---- ---1111- --------  d> u<]      L1
vldr{8:7|b.8|h.16|w.32|}                    1110110- --11---- ---1111- --------  d> u*]      L1
vstr{8:7|b.8|h.16|w.32|}                    11101101 --00---- ---1111- --------  d< u<]      L1
vstr{8:7|b.8|h.16|w.32|}                    1110110- --10---- ---1111- --------  d< u*]      L1
vldr{19|b|h}.{28|s|u}{size8}                111-1101 --01---- ---0111- --------  d> v<]      L1
vldr{19|b|h}.{28|s|u}{size8}                111-110- --11---- ---0111- --------  d> v*]      L1
vstr{19|b|h}.{size8}                        11101101 --00---- ---0111- --------  d< v<]      L1
vstr{19|b|h}.{size8}                        1110110- --10---- ---0111- --------  d< v*]      L1
vldr{6|{4|b|h}|{4|w|d}}.{28|s|u}{size8}     111-1100 1-01---- ---0111- --0-----  d> u<] m<]  L2
vstr{6|{4|b|h}|{4|w|d}}.{size8}             11101100 1-00---- ---0111- --0-----  d< u<] m<]  L1
vldr{8|w.u32|d.u64}                         11111101 --01---- ---1111- 0-------  d> n<]      L2
vldr{8|w.u32|d.u64}                         11111101 --11---- ---1111- 0-------  d> n*]      L2
vstr{8|w.32|d.64}                           11111101 --00---- ---1111- 0-------  d< n<]      L1
vstr{8|w.32|d.64}                           11111101 --10---- ---1111- 0-------  d< n*]      L1
vld2{5|0|1}.{size8}                         11111100 1-01---- ---1111- -0-00000  d2> u<]     L1
vld2{5|0|1}.{size8}                         11111100 1-11---- ---1111- -0-00000  d2> u*]     L1
vst2{5|0|1}.{size8}                         11111100 1-00---- ---1111- -0-00000  d2< u<]     L1
vst2{5|0|1}.{size8}                         11111100 1-10---- ---1111- -0-00000  d2< u*]     L1
vld4{6:5|0|1|2|3}.{size8}                   11111100 1-01---- ---1111- ---00001  d4> u<]     L1
vld4{6:5|0|1|2|3}.{size8}                   11111100 1-11---- ---1111- ---00001  d4> u*]     L1
vst4{6:5|0|1|2|3}.{size8}                   11111100 1-00---- ---1111- ---00001  d4< u<]     L1
vst4{6:5|0|1|2|3}.{size8}                   11111100 1-10---- ---1111- ---00001  d4< u*]     L1
"""


def _row(line: str) -> Row:
    """A line of the table; its columns are two blanks or more apart."""
    mnemonic, bits, *operands, cost = re.split(r" {2,}", line)
    bits = bits.replace(" ", "")
    assert len(bits) == 32, line
    for name, choice in CHOICES.items():
        mnemonic = mnemonic.replace(f"{{{name}}}", choice)
    return Row(
        mnemonic=mnemonic,
        mask=int(re.sub("[01]", "1", bits).replace("-", "0"), 2),
        value=int(bits.replace("-", "0"), 2),
        operands="".join(operands),
        pipe=PIPES[cost[0]],
        latency=int(cost[1:]),
    )


ROWS: Final = tuple(_row(line) for line in _TABLE.splitlines() if line and line[0] != "#")
"""Every encoding."""
