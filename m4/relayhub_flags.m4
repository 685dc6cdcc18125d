# RELAYHUB_ADD_FLAG(VARIABLE, FLAGS, [IF-REFUSED])
# Appends FLAGS to VARIABLE where the compiler and the linker take them, together with what was taken before,
# without a word.
AC_DEFUN([RELAYHUB_ADD_FLAG],
[AS_VAR_PUSHDEF([known], [relayhub_cv_flag_$2])
AC_CACHE_CHECK([whether $CC takes $2], [known],
  [relayhub_saved_CFLAGS=$CFLAGS
   CFLAGS="$CFLAGS $HARDENING_FLAGS $HARDENING_LINK -Werror $2"
   AC_LINK_IFELSE([AC_LANG_PROGRAM([[#include <stdio.h>]], [[puts("")]])],
     [AS_VAR_SET([known], [yes])], [AS_VAR_SET([known], [no])])
   CFLAGS=$relayhub_saved_CFLAGS])
AS_VAR_IF([known], [yes], [AS_VAR_APPEND([$1], [" $2"])], [$3])
AS_VAR_POPDEF([known])])

# RELAYHUB_OPTIMIZES(IF-YES)
# Runs IF-YES where CFLAGS ask for optimization, without which _FORTIFY_SOURCE is a warning.
AC_DEFUN([RELAYHUB_OPTIMIZES],
[AC_CACHE_CHECK([whether $CC optimizes], [relayhub_cv_optimizes],
  [AC_COMPILE_IFELSE([AC_LANG_PROGRAM([], [[
#ifndef __OPTIMIZE__
#error no
#endif
]])], [relayhub_cv_optimizes=yes], [relayhub_cv_optimizes=no])])
AS_VAR_IF([relayhub_cv_optimizes], [yes], [$1])])
